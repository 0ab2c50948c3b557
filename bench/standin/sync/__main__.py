"""As sync."""

from services.sync.__main__ import serve as serve
