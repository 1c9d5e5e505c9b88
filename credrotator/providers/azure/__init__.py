"""Microsoft Entra: a federated assertion, or a client secret."""
