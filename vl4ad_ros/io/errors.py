"""The one exception that a user's mistake raises."""


class Vl4adError(Exception):
    """Something that the user can put right, said in one clear sentence.

    The command line prints the sentence and exits with 2; the nodes log it, and stay up. Whatever reads a
    file, a device or a value of the user's raises it; docstrings name it only where the cause is not plain.
    """
