"""What is remembered: tables, named queries and migrations, in one database."""
