"""As sync."""

from services.sync.config import Settings as Settings
