"""The whole stack without AWS and Docker: moto, luigid, PostgreSQL, sample bags, the demo, local services."""
