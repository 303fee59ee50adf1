"""Run multi-step LLM jobs as a file."""

__version__ = "2.1.0"
