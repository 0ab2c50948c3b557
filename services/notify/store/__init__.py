"""What notify keeps in PostgreSQL: one repository per aggregate, SQL in full view."""
