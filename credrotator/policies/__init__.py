"""From the gateway's API to a policy: the schema, the reader, the managed form, and the inventory of all objects."""
