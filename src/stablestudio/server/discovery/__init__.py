"""What agents and people read before they buy, one document a file: catalog and settings in, text out. No I/O, no clock."""
