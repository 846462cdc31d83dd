"""Plants faults in the mathematics, one at a time and in memory alone, and says which of them no test notices.

Ours, and not mutmut: that finds a module's faults by the path of its file, where rooms at the top of this repository are
installed under another name; it passes over decorated functions, and over what goes wrong here: a step of another length, a
projection or a ``detach`` that is left out, an option that is not handed on.
"""
