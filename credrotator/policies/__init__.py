"""From the gateway's API to a Policy: the schema, the reader, the managed form, and all objects of one reading."""
