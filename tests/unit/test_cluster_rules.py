"""What NetworkPolicies mean, as nftables rules (tests/cluster/rules.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.cluster.rules import Pod, decide, pod_of, selects

WEB = Pod("shop", "web", "10.244.0.2", {"app": "web", "tier": "front"})
DATABASE = Pod("shop", "database", "10.244.0.3", {"app": "database"})
STRANGER = Pod("street", "stranger", "10.244.0.4", {"app": "web"})
PODS = [WEB, DATABASE, STRANGER]
NAMESPACES = {"shop": {"kind": "inside"}, "street": {"kind": "outside"}}


def policy(selector: Mapping[str, Any], *directions: str, **rules: Any) -> dict[str, Any]:
    spec = {"podSelector": selector, "policyTypes": list(directions), **rules}
    return {"metadata": {"namespace": "shop", "name": "rule"}, "spec": spec}


def app(name: str) -> dict[str, Any]:
    return {"matchLabels": {"app": name}}


def chain(text: str, name: str) -> list[str]:
    """Return the lines of one chain of the ruleset."""
    body = text.partition(f"chain {name} {{")[2].partition("\t}\n")[0]
    return [line.strip() for line in body.splitlines()[1:]]


def egress_of_web(*rules: Any) -> list[str]:
    return chain(decide([policy(app("web"), "Egress", egress=list(rules))], PODS, NAMESPACES).text, "egress-10.244.0.2")


def test_without_policies_nobody_is_isolated():
    text = decide([], PODS, NAMESPACES).text
    assert "vmap" not in text
    assert "10.244" not in text


def test_ruleset_replaces_the_one_before_in_one_step():
    lines = decide([], [], {}).text.splitlines()
    assert lines[:3] == ["table inet networkpolicy", "delete table inet networkpolicy", "table inet networkpolicy {"]


def test_deny_all_drops_both_directions_of_the_selected_pod_only():
    text = decide([policy(app("web"), "Ingress", "Egress")], PODS, NAMESPACES).text
    assert chain(text, "egress-10.244.0.2") == ["drop"]
    assert chain(text, "ingress-10.244.0.2") == ["drop"]
    assert "10.244.0.3" not in text
    assert "10.244.0.4" not in text  # in another namespace, where the policy has no say


def test_established_connections_pass_before_anything_else():
    text = decide([policy({}, "Ingress", "Egress")], PODS, NAMESPACES).text
    for hook in ("forward", "input"):
        lines = chain(text, hook)
        assert lines.index("ct state established,related accept") < min(
            number for number, line in enumerate(lines) if "drop" in line or "vmap" in line
        )


def test_the_node_may_reach_its_pods_and_they_not_the_node():
    lines = chain(decide([policy(app("web"), "Ingress", "Egress")], PODS, NAMESPACES).text, "input")
    assert lines[1] == 'iifname != "cni0" accept'
    assert lines[-1] == "ip saddr vmap { 10.244.0.2 : jump egress-10.244.0.2 }"
    assert "hook output" not in decide([], [], {}).text


def test_a_direction_that_is_not_named_stays_open():
    text = decide([policy({}, "Egress")], PODS, NAMESPACES).text
    assert "ingress-" not in text
    assert chain(text, "egress-10.244.0.3") == ["drop"]


def test_what_any_policy_allows_is_allowed():
    allowing = policy(app("web"), "Egress", egress=[{"ports": [{"port": 53, "protocol": "UDP"}]}])
    text = decide([policy({}, "Egress"), allowing], PODS, NAMESPACES).text
    assert chain(text, "egress-10.244.0.2") == ["udp dport 53 return", "drop"]


@pytest.mark.parametrize(
    ("rule", "match"),
    [
        ({}, "return"),
        ({"to": [{"podSelector": app("database")}]}, "ip daddr { 10.244.0.3 } return"),
        ({"to": [{"namespaceSelector": {}}]}, "ip daddr { 10.244.0.2, 10.244.0.3, 10.244.0.4 } return"),
        (
            {"to": [{"namespaceSelector": {"matchLabels": {"kind": "outside"}}, "podSelector": app("web")}]},
            "ip daddr { 10.244.0.4 } return",
        ),
        ({"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}, "ip daddr 10.0.0.0/8 return"),
        (
            {"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.2.0.0/16"]}}]},
            "ip daddr 10.0.0.0/8 ip daddr != { 10.1.0.0/16, 10.2.0.0/16 } return",
        ),
        (
            {"to": [{"podSelector": app("database")}], "ports": [{"port": 5432, "protocol": "TCP"}]},
            "ip daddr { 10.244.0.3 } tcp dport 5432 return",
        ),
        ({"ports": [{"port": 8000, "endPort": 8100}]}, "tcp dport 8000-8100 return"),
        ({"ports": [{"protocol": "UDP"}]}, "meta l4proto udp return"),
    ],
)
def test_rules_become_matches(rule: Any, match: str):
    assert egress_of_web(rule) == [match, "drop"]


@pytest.mark.parametrize("peer", [{"podSelector": app("nobody")}, {"ipBlock": {"cidr": "::/0"}}])
def test_a_peer_without_an_address_allows_nothing(peer: Any):
    assert egress_of_web({"to": [peer]}) == ["drop"]


def test_ingress_looks_at_the_sender():
    rules = [{"from": [{"podSelector": app("web")}], "ports": [{"port": 5432}]}]
    text = decide([policy(app("database"), "Ingress", ingress=rules)], PODS, NAMESPACES).text
    assert chain(text, "ingress-10.244.0.3") == ["ip saddr { 10.244.0.2 } tcp dport 5432 return", "drop"]
    assert chain(text, "forward")[-1] == "ip daddr vmap { 10.244.0.3 : jump ingress-10.244.0.3 }"


@pytest.mark.parametrize("rule", [{"ports": [{"port": "http"}]}, {"to": [{"serviceSelector": {}}]}, {"fqdn": ["a.b"]}])
def test_what_is_not_understood_is_denied_and_said(rule: Any):
    decision = decide([policy(app("web"), "Egress", egress=[{}, rule])], PODS, NAMESPACES)
    assert chain(decision.text, "egress-10.244.0.2") == ["drop"]
    (complaint,) = decision.complaints
    assert complaint.startswith("The policy shop/rule is taken to allow nothing: ")


@pytest.mark.parametrize(
    ("operator", "values", "selected"),
    [
        ("In", ["front", "back"], True),
        ("In", ["back"], False),
        ("NotIn", ["back"], True),
        ("NotIn", ["front"], False),
        ("Exists", [], True),
        ("DoesNotExist", [], False),
    ],
)
def test_expressions_of_a_selector(operator: str, values: list[str], selected: bool):
    expression = {"key": "tier", "operator": operator, "values": values}
    assert selects({"matchExpressions": [expression]}, WEB.labels) is selected


def test_labels_and_expressions_must_all_hold():
    absent = {"key": "tier", "operator": "DoesNotExist"}
    assert not selects({**app("web"), "matchExpressions": [absent]}, WEB.labels)
    assert selects({**app("database"), "matchExpressions": [absent]}, DATABASE.labels)


def test_only_a_pod_with_an_address_of_its_own_is_seen():
    found: dict[str, Any] = {
        "metadata": {"namespace": "shop", "name": "web", "labels": {"app": "web", "tier": "front"}},
        "spec": {},
        "status": {"podIP": "10.244.0.2", "phase": "Running"},
    }
    assert pod_of(found) == WEB
    assert pod_of({**found, "status": {}}) is None
    assert pod_of({**found, "spec": {"hostNetwork": True}}) is None
    assert (
        pod_of({**found, "status": {**found["status"], "phase": "Succeeded"}}) is None
    )  # its address may be another's
