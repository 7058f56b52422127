"""The two ways a job ends badly, by whose turn it is."""


class InputError(Exception):
    """The user's input is wrong: a path, a flag, a credential, the data.

    The message is one line that says what is wrong, where, and what to do. The jobs print it without a
    traceback and exit with code 2.
    """


class RunFailedError(Exception):
    """The run failed although the input was right. The jobs print the message and exit with code 1."""
