"""The one exception for what a user can cause; every stage prints it as a single line and exits with status 2."""


class UserError(Exception):
    """Bad input: the message names the file, row or key, what was found and what was expected."""
