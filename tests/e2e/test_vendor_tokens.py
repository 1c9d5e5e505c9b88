"""Tokens of the model vendors, from the examples' policies to the vendors, through the gateway's own data plane."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import requests

from credrotator.sandbox import Sandbox
from tests.e2e import chain
from tests.e2e.chain import Backend, Chain
from tests.e2e.command import Credrotator, Outcome
from tests.e2e.published import token_id
from tests.e2e.upstream.forward import Forward
from tests.support.parts.cache import Cache
from tests.support.waiting import eventually

_ROOT = Path(__file__).parents[2]
_EXAMPLES, _TEMPLATE = _ROOT / "examples", Path(__file__).parent / "config" / "model_vendors.yaml.j2"
_MESSAGES, _COMPLETIONS = "/anthropic/v1/messages", "/v1/chat/completions"
_WHO = "/sandbox/whoami"


@dataclass(frozen=True)
class Vendor:
    """A vendor as the gateway knows it, and which server of the sandbox stands for it.

    Attributes:
        server: Its name in the sandbox.
        path: What the gateway is asked.
        probe: What the server is asked, if not that.
        refusal: The answer to a token that is not good any more.
    """

    name: str
    example: str
    host: str
    server: str
    path: str = _COMPLETIONS
    probe: str = ""
    refusal: int = HTTPStatus.UNAUTHORIZED

    @property
    def backend(self) -> Backend:
        """Its backend; models have the vendors' names."""
        return Backend(self.name, f"{self.name}-model", self.host)


VENDORS = (
    Vendor("anthropic", "anthropic.yaml", "api.anthropic.com", "anthropic", _MESSAGES),
    Vendor("openai", "openai.yaml", "api.openai.com", "openai"),
    Vendor("tools", "token-exchange.yaml", "tools.example", "exchange", probe=_WHO),
    Vendor("own-gateway", "client-credentials.yaml", "mcp.example", "exchange", probe=_WHO),
    # Bedrock answers so for whatever is wrong with a key.
    Vendor("bedrock-key", "bedrock-api-key.yaml", "bedrock-runtime.us-east-1.amazonaws.com", "sts", refusal=403),
)
_BY_NAME = {vendor.name: vendor for vendor in VENDORS}


class Site:
    """The vendors' tokens as published, and the data plane that sends them."""

    def __init__(self, sandbox: Sandbox, credrotator: Credrotator) -> None:
        self.sandbox, self.credrotator = sandbox, credrotator
        self.chain: Chain

    def rotate(self, *options: str) -> Outcome:
        """Run one pass, and render the filter's configuration."""
        return self.credrotator.rotate("--template", f"{_TEMPLATE}:{self.credrotator.filter_file}", *options)

    def token(self, vendor: Vendor) -> str:
        """Read what is published for a vendor."""
        return (self.credrotator.published.secrets / f"{vendor.name}-token" / "apiKey").read_text()

    def ask(self, vendor: Vendor) -> int:
        """Send a request to a vendor's model; return the status of the answer."""
        question: dict[str, Any] = {
            "model": vendor.backend.model,
            "max_tokens": 16,
            "messages": [{"role": "user", "content": "hello"}],
        }
        # Anthropic's SDK sends its version with each request.
        headers = {"anthropic-version": "2023-06-01"} if vendor.path == _MESSAGES else {}
        return requests.post(f"{self.chain.url}{vendor.path}", json=question, headers=headers, timeout=10).status_code

    def used(self, vendor: Vendor) -> str:
        """Return which token the last request to a vendor bore, by its name."""
        return self.chain.journal.entries(vendor.host)[-1].verdict.credential

    def takes(self, vendor: Vendor, token: str) -> bool:
        """Tell whether a request bears that token, and the vendor takes it."""
        return self.ask(vendor) == HTTPStatus.OK and self.used(vendor) == token_id(token)

    def revoke(self, vendor: Vendor) -> None:
        """Have the vendor take back what is published."""
        if vendor.server == "sts":
            # A short-term key has no end of its own: it ends with the session that it was made with.
            self.sandbox.sts.sessions.clear()
        else:
            getattr(self.sandbox, vendor.server).revoke(self.token(vendor))


def _manifests(sandbox: Sandbox) -> str:
    """Return the policies of the examples, pointed at the sandbox."""
    texts = [(_EXAMPLES / name).read_text() for name in ("secrets.yaml", *(vendor.example for vendor in VENDORS))]
    text = "\n---\n".join(texts)
    text = re.sub(r"https://localhost:9449\b", sandbox.exchange.url, text)
    return re.sub(r"https://localhost:9443\b", sandbox.issuer.url, text)


@pytest.fixture(scope="module")
def vendors(parts: Cache, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Every vendor's token, published, and Envoy with the gateway's filter on what was rendered of it."""
    allowed = ("--allowed-issuer", sandbox.issuer.url, "--allowed-issuer", f"{sandbox.exchange.url}/token")
    directory = tmp_path_factory.mktemp("vendors")
    credrotator = Credrotator(directory, sandbox.environment(), ("--ca-file", str(sandbox.ca_file), *allowed))
    credrotator.manifests.write_text(_manifests(sandbox))
    site = Site(sandbox, credrotator)
    outcome = site.rotate()
    assert outcome.exit_code == 0, outcome
    judges = {
        vendor.host: Forward(getattr(sandbox, vendor.server).url, sandbox.ca_file, vendor.probe) for vendor in VENDORS
    }
    backends = [vendor.backend for vendor in VENDORS]
    with chain.serving(parts, credrotator.filter_file, judges, directory=directory, backends=backends) as running:
        site.chain = running
        yield site


@pytest.mark.parametrize("name", list(_BY_NAME))
def test_a_token_is_taken_until_it_is_revoked(vendors: Site, name: str) -> None:
    """The vendor takes what was published, refuses it once it is revoked, and takes the next one."""
    vendor = _BY_NAME[name]
    first = vendors.token(vendor)
    # The filter looks at its configuration every five seconds.
    eventually(lambda: vendors.takes(vendor, first))

    vendors.revoke(vendor)
    assert vendors.ask(vendor) == vendor.refusal
    assert vendors.used(vendor) == token_id(first)

    assert vendors.rotate("--force").document["summary"]["rotated"] == len(VENDORS)
    second = vendors.token(vendor)
    assert second != first
    eventually(lambda: vendors.takes(vendor, second))
