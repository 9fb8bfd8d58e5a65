"""The store: typed tables, frozen records and job leases. Never imports torch or textual."""
