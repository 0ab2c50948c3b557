"""As notify."""

from services.notify.config import Settings as Settings
