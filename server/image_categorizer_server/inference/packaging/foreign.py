"""Tells errors of the libraries that read a user's model from errors of our own code.

A library may raise anything over a file that it does not understand, which is reported as one
sentence on that file.  What our own code raises is a bug, and must not look like a bad file.
"""

PACKAGE = __name__.partition(".")[0]


def is_own(error: BaseException) -> bool:
    """Returns whether our own code raised an error, and not a library that it calls."""
    place, module = error.__traceback__, ""
    while place is not None:
        module = str(place.tb_frame.f_globals.get("__name__", ""))
        place = place.tb_next
    return module.partition(".")[0] == PACKAGE
