"""Keeps the garbage collector from pausing the app.

Now and then Python's collector looks through every object that has lived for some time. Nearly all of them are the
imported modules, which live as long as the app; with them one look takes 0.1 to 0.25 s, in which no key is answered.
So they are set apart once they are there: later looks find only what the app itself has made. This is no fault of
Textual's; it can go where Python's collector works in small steps.
"""

import gc


def rest() -> None:
    """Nothing is looked through until `settle`: while modules are imported, next to nothing is garbage."""
    gc.disable()


def settle() -> None:
    """What there is now is set apart for good; what comes after it is looked through as ever."""
    gc.freeze()
    gc.enable()
