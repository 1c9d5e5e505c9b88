"""The SDK with STS alone in its table of endpoints, beside the SDK with the whole of it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest
from botocore import UNSIGNED
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from credrotator.core.errors import PolicyError
from credrotator.providers.aws.sdk import check_region, sdk_session
from credrotator.providers.aws.web_identity_call import ReadBody, WebIdentityCall

if TYPE_CHECKING:
    from pathlib import Path

    from botocore.awsrequest import AWSPreparedRequest


def every_region() -> list[str]:
    """Name the regions that the SDK's own table has for STS."""
    session: Any = botocore.session.Session()
    names = [session.get_available_regions("sts", partition) for partition in session.get_available_partitions()]
    return [name for some in names for name in some]


@pytest.fixture(scope="module")
def sessions() -> tuple[Any, Any]:
    """Return ours, and one that reads the SDK's whole table of endpoints."""
    return sdk_session(), botocore.session.Session()


@pytest.mark.parametrize("config", [{}, {"use_fips_endpoint": True}])
@pytest.mark.parametrize("region", every_region())
def test_a_region_is_the_sdks(sessions: tuple[Any, Any], region: str, config: dict[str, Any]) -> None:
    """Without the table of all endpoints: the same address, and the same scope of a signature, in every region."""
    ours, _ = sessions
    check_region(ours, region)
    addresses = set()
    for session in sessions:
        sent: list[AWSPreparedRequest] = []

        def keep(request: AWSPreparedRequest, sent: list[AWSPreparedRequest] = sent, **_: object) -> AWSResponse:
            sent.append(request)
            empty: Any = ReadBody(b"<r><GetCallerIdentityResult/></r>")
            return AWSResponse(request.url, 200, {}, empty)  # type: ignore[arg-type]

        keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
        client = session.create_client("sts", region_name=region, config=Config(**config), **keys)
        client.meta.events.register("before-send.sts", keep)
        client.get_caller_identity()
        scope = re.search(r"Credential=x/\d+/([^,]+)", str(sent[0].headers["Authorization"]))
        assert scope is not None
        addresses.add((sent[0].url, scope[1], client.meta.partition, client.meta.region_name))
    assert len(addresses) == 1


def test_the_table_of_all_endpoints_is_not_read(sessions: tuple[Any, Any]) -> None:
    """It is for whoever brings data of his own: then his counts."""
    ours, whole = sessions
    loaded = [session.get_component("data_loader").load_data("endpoints") for session in (ours, whole)]
    assert [sorted(partition["services"]) == ["sts"] for data in loaded for partition in data["partitions"][:1]] == [
        True,
        False,
    ]


def test_data_of_the_operators_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """AWS_DATA_PATH may describe a cloud of one's own, which has its own regions and addresses."""
    defaults = {"hostname": "{service}.{region}.{dnsSuffix}", "protocols": ["https"], "signatureVersions": ["v4"]}
    own = {"partition": "aws-own", "regionRegex": "^own-.*$", "dnsSuffix": "cloud.example", "defaults": defaults}
    more = {"regions": {"own-south-1": {}}, "services": {"sts": {"endpoints": {"own-south-1": {}}}}}
    (tmp_path / "endpoints.json").write_text(json.dumps({"version": 3, "partitions": [own | more]}))
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    session: Any = sdk_session()
    check_region(session, "own-south-1")
    with pytest.raises(PolicyError, match="no region eu-central-1"):
        check_region(session, "eu-central-1")
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
    client = session.create_client("sts", region_name="own-south-1", config=Config(signature_version=UNSIGNED), **keys)
    assert WebIdentityCall(client).url == "https://sts.own-south-1.cloud.example/"
