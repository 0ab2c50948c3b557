"""The door for records of other nodes: the kinds whose copies sync keeps."""

from services.sync.events import KIND, TRUSTED

KINDS = (KIND, TRUSTED)
