"""The commands, one file each, which is imported once its command is given.

A file has ``DEFAULTS`` (the preset that options are changes of, or None), ``add_options(parser, arguments)`` and
``run(given)``; or ``start(command, arguments)`` where a command must look at what was typed before it can be parsed.
"""
