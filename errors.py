"""The one exception that means: the user can fix this."""


class InputError(ValueError):
    """Bad input, described in one sentence that names the value, the bound and the option.

    The command line prints it without a traceback and exits with status 2. Anything else that is raised is
    a defect of this project and keeps its traceback.
    """
