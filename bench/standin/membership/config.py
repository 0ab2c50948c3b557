"""As membership."""

from services.membership.config import Settings as Settings
