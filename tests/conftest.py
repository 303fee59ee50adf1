"""What every test relies on."""

import signal


def pytest_configure():
    """Let Ctrl-C be heard: behind `&` in a script it is ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
