"""From policy to credential under one deadline: subject tokens, issuers, HTTP."""
