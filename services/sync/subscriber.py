"""The door for records of other nodes: the kinds whose copies sync keeps."""

from services.sync.events import (
    DIRECTIVES,
    HOMES,
    KIND,
    REPORTS,
    TRUSTED,
    VIEW_REPORTS,
    VIEWS,
)

KINDS = (KIND, TRUSTED, DIRECTIVES, REPORTS, HOMES, VIEWS, VIEW_REPORTS)
