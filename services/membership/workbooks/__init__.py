"""Workbooks (.xlsx): read in a process of their own, and written as a stream."""
