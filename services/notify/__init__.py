"""Notify (通知服务): notices, inboxes, and the voice of members."""
