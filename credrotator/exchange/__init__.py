"""From a policy to a credential, under one deadline: subject tokens, issuers, HTTP."""
