"""Who makes the pictures and clips: one file per vendor, and which vendor serves which offering."""
