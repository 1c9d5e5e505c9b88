"""Circuit breakers: who is asked and as whom, slots, trials, and who is woken when it is well again."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from credrotator.core.circuit_key import CircuitKey, client_account
from credrotator.core.errors import Denied, PolicyError, Throttled, Transient, Untrusted
from credrotator.core.model import ObjectKey
from credrotator.core.sensitive import Sensitive
from credrotator.exchange.http.circuit import IDLE_S, MOST_CIRCUITS, SLOTS
from credrotator.exchange.http.pauses import FAILURES_TO_OPEN, FIRST_PAUSE_S, TRIAL_S
from credrotator.exchange.http.retry_after import ignoring_retry_after
from tests.exchange.crowd import NOBODY, STS, TOKEN, Crowd, outage, throttled

if TYPE_CHECKING:
    from tests.support.exchanging import Backend


class TestTrials:
    """I7: an endpoint that fails is asked now and then, by one at a time."""

    def test_i7_some_failures_in_a_row_open_it(self, crowd: Crowd) -> None:
        """After some failures in a row the rest fail at once, and are told until when."""
        crowd.fail(outage(), times=FAILURES_TO_OPEN - 1)
        assert crowd.refuses() is None
        crowd.fail(outage(), times=FAILURES_TO_OPEN)
        refusal = crowd.refuses()
        assert refusal is not None
        assert "is not asked again for 1 s" in refusal.message
        assert refusal.retry_after == timedelta(seconds=FIRST_PAUSE_S)

    def test_i7_one_trial_at_a_time_at_doubling_intervals(self, crowd: Crowd) -> None:
        """The first trials come soon, since most faults are short; their distance doubles up to half a minute."""
        crowd.fail(outage(), times=FAILURES_TO_OPEN)
        pauses = []
        for _ in range(9):
            refusal = crowd.refuses()
            assert refusal is not None
            assert refusal.retry_after is not None
            pauses.append(refusal.retry_after.total_seconds())
            crowd.later(pauses[-1])
            crowd.fail(outage())
        assert pauses == [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30]
        crowd.later(30)
        assert crowd.refuses() is None

    def test_i7_the_trial_keeps_others_out(self, crowd: Crowd) -> None:
        """While a trial is away nobody else is let through, unless it hangs."""
        crowd.fail(outage(), times=FAILURES_TO_OPEN)
        crowd.later(1)
        with crowd.circuits.asking(ObjectKey("team", "trial")), crowd.circuits.of(TOKEN).slot():
            assert crowd.refuses()
            crowd.later(TRIAL_S)
            assert crowd.refuses() is None

    def test_a_burst_in_flight_is_one_trial(self, crowd: Crowd) -> None:
        """Sixteen that were under way when it opened count as one: the pause is still the first one."""
        circuit, policy = crowd.circuits, ObjectKey("team", "policy")
        began = [circuit.enter(TOKEN, policy) for _ in range(SLOTS)]
        crowd.later(0.01)
        for began_s in began:
            circuit.leave(TOKEN, policy, began_s, outage())
        refusal = crowd.refuses()
        assert refusal is not None
        assert refusal.retry_after == timedelta(seconds=FIRST_PAUSE_S)

    def test_what_is_no_verdict(self, crowd: Crowd) -> None:
        """A time limit of our own, a defect, a policy that cannot work: none of them opens or closes it."""
        crowd.fail(outage(), times=FAILURES_TO_OPEN - 1)
        for end in (TimeoutError("ours"), ZeroDivisionError(), PolicyError("KeyFileInvalid", "no", hint="edit")):
            with (
                pytest.raises(type(end)),
                crowd.circuits.asking(ObjectKey("team", "p")),
                crowd.circuits.of(TOKEN).slot(),
            ):
                raise end
        crowd.fail(outage())
        assert crowd.refuses()

    def test_a_refusal_is_no_failure_of_the_endpoint(self, crowd: Crowd) -> None:
        """A no to one policy says that the endpoint is well, however often it is said."""
        for _ in range(3 * FAILURES_TO_OPEN):
            crowd.fail(Denied("AccessDenied", "no", hint="ask"))
            crowd.fail(Transient("IDPCommunicationError", "it could not reach the issuer", hint="look"))
        assert crowd.refuses() is None

    @pytest.mark.parametrize("reason", ["IssuerTimeout", "IssuerFailed", "InvalidResponse", "CredentialExpired"])
    def test_fault_17_what_tells_of_the_endpoint(self, crowd: Crowd, reason: str) -> None:
        """Failures that everybody meets open it: no answer, garbage, and credentials that have expired already."""
        crowd.fail(outage(reason), times=FAILURES_TO_OPEN)
        refusal = crowd.refuses()
        assert refusal is not None
        assert refusal.reason == reason

    def test_fault_22_an_outage_by_any_name(self, crowd: Crowd) -> None:
        """A vendor's own code as reason says nothing to the breaker; that it is an outage is said by its class."""
        crowd.fail(outage("AADSTS90033"), times=FAILURES_TO_OPEN, key="entra login.example client")
        refusal = crowd.refuses(key="entra login.example client")
        assert refusal is not None
        assert refusal.reason == "EntraFailed"


class TestWhoIsAsked:
    """Rows 51..53: a circuit stands for who is really asked, and as whom."""

    def test_fault_51_one_realm_of_a_host(self, crowd: Crowd) -> None:
        """A realm that fails, at discovery or token, opens nothing for another realm, nor for its own other address."""
        crowd.fail(outage(), times=FAILURES_TO_OPEN)
        assert crowd.refuses()
        for url in (
            "https://idp.example/realms/b/token",
            "https://idp.example/realms/a/.well-known/openid-configuration",
        ):
            assert crowd.refuses(key=CircuitKey.of_url("issuer", url, "client")) is None

    def test_fault_51_a_host_that_nobody_reaches(self, crowd: Crowd) -> None:
        """No connection stands for host and port: all its realms are spared the wait, another port is not."""
        crowd.fail(NOBODY, times=FAILURES_TO_OPEN)
        assert crowd.refuses(key=CircuitKey.of_url("issuer", "https://IDP.example:443/realms/b/token", "another"))
        assert crowd.refuses(key=CircuitKey.of_url("issuer", "https://idp.example:8443/realms/a/token")) is None

    def test_fault_06_a_certificate_stands_for_the_host(self, crowd: Crowd) -> None:
        """A certificate that cannot be trusted is that of host and port; any answer shows that it is well again."""
        crowd.fail(Untrusted("IssuerTLS", "expired", hint="renew"), times=FAILURES_TO_OPEN)
        refusal = crowd.refuses(key=CircuitKey.of_url("issuer", "https://idp.example/realms/b/token"))
        assert refusal is not None
        assert refusal.reason == "IssuerTLS"
        crowd.later(1)
        crowd.fail(Denied("InvalidClient", "no", hint="look"))
        assert crowd.refuses() is None

    def test_fault_52_one_account_is_throttled(self, crowd: Crowd) -> None:
        """An hour of Retry-After is that account's, in that region."""
        crowd.fail(throttled(timedelta(hours=1)), key=STS)
        assert crowd.refuses(key=STS)
        assert crowd.refuses(key="sts us-east-1 999999999999") is None
        assert crowd.throttled == ["sts"]

    def test_fault_53_a_wrong_secret_is_another_client(self, crowd: Crowd) -> None:
        """Who names another's client with a wrong secret is throttled; the right secret is sent."""
        url = "https://idp.example/token"
        wrong, right = (client_account("shared", Sensitive(text)) for text in ("guess", "right"))
        crowd.fail(throttled(), key=CircuitKey.of_url("issuer", url, wrong), policy="mallory/p")
        assert crowd.refuses(key=CircuitKey.of_url("issuer", url, right)) is None
        assert "guess" not in wrong

    def test_invariant_13_failures_of_one_namespace_are_its_own(self, crowd: Crowd) -> None:
        """Who fails alone is kept out alone, though it asks the same as the same."""
        crowd.fail(outage(), times=FAILURES_TO_OPEN, policy="mallory/p")
        assert crowd.refuses(policy="mallory/q")
        assert crowd.refuses(policy="team/p") is None
        # The team's success ends it for the other one too.
        assert crowd.refuses(policy="mallory/q") is None

    def test_invariant_13_two_that_fail_open_it_for_all(self, crowd: Crowd) -> None:
        """Where several fail and nobody succeeds, it is the endpoint: a third namespace is spared the wait."""
        crowd.fail_in_turn("team-1/p", "team-2/p")
        assert crowd.refuses(policy="team-3/p")


class TestWords:
    """I15: nobody's text in another's status."""

    @pytest.mark.parametrize(
        ("end", "reason"),
        [
            (outage(), "IssuerFailed"),
            (outage("InvalidResponse"), "InvalidResponse"),
            (outage("SomebodysOwnCode"), "IssuerFailed"),
            (throttled(), "IssuerThrottled"),
            (NOBODY, "IssuerUnreachable"),
        ],
    )
    def test_invariant_15_a_refusal_says_nothing_of_what_others_were_told(
        self, crowd: Crowd, end: Transient, reason: str
    ) -> None:
        """Reason of the class, address that it asked itself, and until when."""
        crowd.fail(end, times=1 if isinstance(end, Throttled) else FAILURES_TO_OPEN, policy="team/other")
        refusal = crowd.refuses()
        assert refusal is not None
        assert refusal.reason == reason
        assert "SECRET" not in refusal.message + refusal.hint
        assert refusal.message.startswith("https://idp.example:443/realms/a/token is not asked again for ")
        assert refusal.retry_after is not None


class TestAwakening:
    """Recovery wakes those that this circuit refused, a few at a time."""

    def refused(self, crowd: Crowd, count: int) -> list[str]:
        """Open the circuit, and have so many refused; return their names."""
        crowd.fail(outage(), times=FAILURES_TO_OPEN, policy="team/first")
        names = [f"refused-{number:03}" for number in range(count)]
        for name in names:
            assert crowd.refuses(policy=f"team/{name}")
        return names

    def test_one_makes_the_trial(self, crowd: Crowd) -> None:
        """When a trial is due, one of those that were refused is named, each time another one."""
        names = self.refused(crowd, 3)
        assert crowd.woken() == []
        named = []
        for pause in (0.25, 0.5, 1.0):
            crowd.later(pause)
            (name,) = crowd.woken()
            assert crowd.woken() == []
            named.append(name)
            crowd.fail(outage(), policy=f"team/{name}")
        assert named == names

    def test_the_others_follow_a_few_at_a_time(self, crowd: Crowd) -> None:
        """After a success all that were refused are named within a second or so, and nobody else is."""
        names = self.refused(crowd, 40)
        crowd.later(0.25)
        (first,) = crowd.woken()
        assert crowd.refuses(policy=f"team/{first}") is None
        batches = []
        for _ in range(20):
            crowd.later(0.1)
            if batch := crowd.woken():
                batches.append(batch)
        assert [len(batch) for batch in batches[:4]] == [2, 4, 8, 16]
        assert sorted(sum(batches, [first])) == sorted(["first", *names])
        assert crowd.woken() == []

    def test_i7_nobody_is_woken_within_a_second_of_its_own_failure(self, crowd: Crowd) -> None:
        """Who failed itself keeps the shortest wait; who was only refused did not ask."""
        crowd.fail(outage(), times=FAILURES_TO_OPEN, policy="team/first")
        crowd.later(0.3)
        assert crowd.woken() == []
        crowd.later(0.7)
        assert crowd.woken() == ["first"]

    def test_who_was_answered_is_not_woken(self, crowd: Crowd) -> None:
        """A denial ends the wait for this circuit: it keeps its own pace."""
        self.refused(crowd, 1)
        crowd.later(1)
        crowd.fail(Denied("AccessDenied", "no", hint="ask"), policy="team/refused-000")
        crowd.later(1)
        assert crowd.woken() == ["first"]
        assert crowd.woken() == []

    def test_another_circuit_s_recovery_wakes_nobody(self, crowd: Crowd) -> None:
        """What is back is one endpoint; those that another one refused stay where they are."""
        self.refused(crowd, 5)
        other = CircuitKey.of_url("issuer", "https://idp.example/realms/b/token")
        crowd.fail(outage(), times=FAILURES_TO_OPEN, key=other, policy="team/other")
        crowd.later(0.2)
        crowd.circuits._circuits[other].pauses._own["team"].until_s = 0.0
        assert crowd.refuses(key=other, policy="team/other") is None
        assert crowd.woken() == []

    def test_namespaces_take_turns(self, crowd: Crowd) -> None:
        """A namespace with a thousand refused policies stands before nobody else's."""
        crowd.fail_in_turn("team-1/f", "team-2/f")
        for number in range(100):
            assert crowd.refuses(policy=f"many/{number}")
        assert crowd.refuses(policy="few/only")
        crowd.later(10)
        with ignoring_retry_after(on=True):
            assert crowd.refuses(policy="many/0") is None
        crowd.later(0.1)
        woken: list[str] = []
        for _ in range(3):
            woken += crowd.woken()
            crowd.later(0.1)
        assert "only" in woken

    def test_a_policy_that_is_gone_is_forgotten(self, crowd: Crowd) -> None:
        """I14: nothing is kept of it."""
        self.refused(crowd, 10)
        for name in ["first", *(f"refused-{number:03}" for number in range(10))]:
            crowd.circuits.forget(ObjectKey("team", name))
        assert len(crowd.circuits._awakening) == 0
        assert not crowd.circuits._awakening._waiting

    def test_those_that_fail_again_wait_again(self, crowd: Crowd) -> None:
        """A circuit that opens again stops the waking; the rest wait for its next trial."""
        self.refused(crowd, 40)
        crowd.later(0.25)
        (first,) = crowd.woken()
        assert crowd.refuses(policy=f"team/{first}") is None
        crowd.later(0.1)
        assert len(crowd.woken()) == 2
        crowd.fail(outage(), times=FAILURES_TO_OPEN, policy="team/first")
        crowd.later(0.1)
        assert crowd.woken() == []
        crowd.later(0.25)
        assert len(crowd.woken()) == 1


class TestBounds:
    """I14: what nobody needs is not kept."""

    def test_invariant_14_a_circuit_that_is_well_is_not_kept(self, crowd: Crowd) -> None:
        """Ten thousand issuers that came and went leave nothing."""
        for number in range(10_000):
            crowd.ask(key=CircuitKey.of_url("issuer", f"https://idp-{number}.example/token"))
        assert crowd.circuits.count() == 0

    def test_invariant_14_troubled_circuits_are_bounded(self, crowd: Crowd) -> None:
        """Nor are there more than so many that failed."""
        for number in range(MOST_CIRCUITS + 500):
            crowd.fail(NOBODY, key=CircuitKey.of_url("issuer", f"https://idp-{number}.example/token"))
        assert crowd.circuits.count() <= MOST_CIRCUITS

    def test_invariant_14_what_nobody_asks_is_forgotten(self, crowd: Crowd) -> None:
        """After minutes without a question a failing endpoint is gone; one with a Retry-After stays as long."""
        crowd.fail(outage(), times=FAILURES_TO_OPEN)
        crowd.fail(throttled(timedelta(minutes=20)), key=STS)
        crowd.later(IDLE_S + 1)
        crowd.woken()
        assert crowd.circuits.count() == 1
        assert len(crowd.circuits._awakening) == 1
        crowd.later(20 * 60)
        crowd.woken()
        assert (crowd.circuits.count(), len(crowd.circuits._awakening)) == (0, 0)
        assert not crowd.circuits._awakening._agenda or not crowd.woken()


def test_fault_17_a_dead_sts_is_asked_a_bounded_number_of_times(world: Backend) -> None:
    """With STS away, a hundred exchanges reach it some times only; the others fail at once, with the same reason."""
    exchanger = world.exchanger()
    world.sandbox.sts.stop()
    try:
        reasons = set()
        for _ in range(100):
            with pytest.raises(Transient) as caught:
                world.exchange_aws(exchanger)
            reasons.add(caught.value.reason)
        assert reasons == {"StsUnreachable"}
        assert "not asked again" in caught.value.message
    finally:
        world.sandbox.sts.start()
