"""What users test their own programs with: a sequential oracle, random programs, a seeded simulator."""
