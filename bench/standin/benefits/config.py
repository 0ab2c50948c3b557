"""As benefits."""

from services.benefits.config import Settings as Settings
