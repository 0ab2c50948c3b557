"""As benefits."""

from services.benefits.__main__ import serve as serve
