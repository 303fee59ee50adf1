"""What every test relies on."""

import signal


def pytest_configure():
    """Let Ctrl-C and a closed terminal be heard: children inherit what is ignored.

    Behind `&` in a script the first is, under `nohup` the second.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
