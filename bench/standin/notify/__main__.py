"""As notify."""

from services.notify.__main__ import serve as serve
