"""From NetworkPolicies, pods and namespaces to an nftables ruleset. Nothing here looks at anything or changes anything.

A pod that some policy selects for a direction is isolated in it: it has a chain that lets through what any of those
policies allows, and drops the rest. A new connection must pass the chain of its sender and that of its receiver. What
belongs to a connection that was let through passes unseen.

A policy with something that is not supported here (a port by its name, a field that we do not know) allows nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

Object = Mapping[str, Any]
DIRECTIONS = {"Ingress": ("from", "saddr"), "Egress": ("to", "daddr")}
TABLE = "inet networkpolicy"
BRIDGE = "cni0"


class Unsupported(Exception):
    """A policy says something that these rules cannot express."""


@dataclass(frozen=True)
class Pod:
    """What a policy can see of a pod."""

    namespace: str
    name: str
    address: str
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Decision:
    """The ruleset as `nft -f` takes it, and a sentence for each policy that was not understood."""

    text: str
    complaints: tuple[str, ...] = ()


def pod_of(found: Object) -> Pod | None:
    """Return the pod as policies see it; None while it has no address, or none of its own, or no longer."""
    status, metadata = found.get("status", {}), found["metadata"]
    if not status.get("podIP") or found["spec"].get("hostNetwork") or status.get("phase") in ("Succeeded", "Failed"):
        return None
    return Pod(metadata["namespace"], metadata["name"], status["podIP"], metadata.get("labels") or {})


def decide(policies: Iterable[Object], pods: Iterable[Pod], namespaces: Mapping[str, Mapping[str, str]]) -> Decision:
    """Return the rules that these policies mean for these pods. `namespaces` holds each namespace's labels."""
    known = sorted(pods, key=lambda pod: pod.address)
    allowed: dict[str, dict[Pod, list[str]]] = {direction: {} for direction in DIRECTIONS}
    complaints = []
    for policy in sorted(policies, key=_name):
        selected, directions = _selected(policy, known), policy["spec"].get("policyTypes") or ["Ingress"]
        try:
            matches = {direction: _matches(policy, direction, known, namespaces) for direction in directions}
        except Unsupported as error:
            complaints.append(f"The policy {_name(policy)} is taken to allow nothing: {error}")
            matches = {direction: [] for direction in directions}
        for direction, lines in matches.items():
            for pod in selected:
                allowed[direction].setdefault(pod, []).extend(lines)
    return Decision(_ruleset(allowed), tuple(complaints))


def _name(policy: Object) -> str:
    return f"{policy['metadata']['namespace']}/{policy['metadata']['name']}"


def _selected(policy: Object, pods: Sequence[Pod]) -> list[Pod]:
    selector = policy["spec"].get("podSelector") or {}
    return [pod for pod in pods if pod.namespace == policy["metadata"]["namespace"] and selects(selector, pod.labels)]


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Tell whether a label selector selects these labels; an empty one selects everything."""
    wanted = (selector.get("matchLabels") or {}).items()
    expressions = selector.get("matchExpressions") or []
    return all(labels.get(key) == value for key, value in wanted) and all(
        _holds(expression, labels) for expression in expressions
    )


def _holds(expression: Object, labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or []
    match expression["operator"]:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case _:  # The API server lets only one more through: DoesNotExist.
            return key not in labels


def _matches(
    policy: Object, direction: str, pods: Sequence[Pod], namespaces: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Return one nftables match for each thing that the policy allows in this direction."""
    side, _ = DIRECTIONS[direction]
    found = []
    for rule in policy["spec"].get(direction.lower()) or []:
        _only(rule, side, "ports")
        peers = [_peer(peer, policy, direction, pods, namespaces) for peer in rule.get(side) or []]
        ports = [_port(port) for port in rule.get("ports") or []]
        # None is a peer that no address answers to. No peers at all mean everybody, and no ports every port.
        found += [f"{peer} {port}".strip() for peer in peers or [""] if peer is not None for port in ports or [""]]
    return found


def _peer(
    peer: Object,
    policy: Object,
    direction: str,
    pods: Sequence[Pod],
    namespaces: Mapping[str, Mapping[str, str]],
) -> str | None:
    _only(peer, "ipBlock", "podSelector", "namespaceSelector")
    _, address = DIRECTIONS[direction]
    if "ipBlock" in peer:
        return _block(peer["ipBlock"], address)
    homes = {policy["metadata"]["namespace"]}
    if "namespaceSelector" in peer:
        homes = {name for name, labels in namespaces.items() if selects(peer["namespaceSelector"], labels)}
    wanted = peer.get("podSelector") or {}
    found = [pod.address for pod in pods if pod.namespace in homes and selects(wanted, pod.labels)]
    return f"ip {address} {{ {', '.join(found)} }}" if found else None


def _block(block: Object, address: str) -> str | None:
    _only(block, "cidr", "except")
    if ip_network(block["cidr"]).version == 6:
        return None  # Nothing here has such an address.
    excepted = block.get("except") or []
    return f"ip {address} {block['cidr']}" + (f" ip {address} != {{ {', '.join(excepted)} }}" if excepted else "")


def _port(port: Object) -> str:
    _only(port, "protocol", "port", "endPort")
    protocol = port.get("protocol", "TCP").lower()
    if "port" not in port:
        return f"meta l4proto {protocol}"
    if not isinstance(port["port"], int):
        raise Unsupported(f"ports by name ({port['port']}) are not supported; give the number.")
    last = f"-{port['endPort']}" if "endPort" in port else ""
    return f"{protocol} dport {port['port']}{last}"


def _only(found: Object, *known: str) -> None:
    if unknown := sorted(set(found) - set(known)):
        raise Unsupported(f"the field {unknown[0]} is not supported.")


def _ruleset(allowed: Mapping[str, Mapping[Pod, Sequence[str]]]) -> str:
    """Write the whole table anew: nftables replaces the old one by it in one step."""
    sender = _jump("saddr", "Egress", allowed["Egress"])
    receiver = _jump("daddr", "Ingress", allowed["Ingress"])
    # Pods have IPv6 addresses of their links, which no policy speaks of.
    every = ["ct state established,related accept", "meta nfproto ipv6 drop"]
    hook = "type filter hook {} priority filter; policy accept;"
    chains = [
        _chain("forward", [hook.format("forward"), *every, *sender, *receiver]),
        # The node itself: the API server, the kubelet. What the node sends to its pods is nobody's to forbid.
        _chain("input", [hook.format("input"), f'iifname != "{BRIDGE}" accept', *every, *sender]),
    ]
    for direction, pods in allowed.items():
        for pod, matches in pods.items():
            lines = [*(f"{match} return".strip() for match in dict.fromkeys(matches)), "drop"]
            chains.append(_chain(_own_chain(direction, pod), lines, f"{pod.namespace}/{pod.name}"))
    return f"table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n{''.join(chains)}}}\n"


def _jump(address: str, direction: str, pods: Iterable[Pod]) -> list[str]:
    goals = ", ".join(f"{pod.address} : jump {_own_chain(direction, pod)}" for pod in pods)
    return [f"ip {address} vmap {{ {goals} }}"] if goals else []


def _own_chain(direction: str, pod: Pod) -> str:
    return f"{direction.lower()}-{pod.address}"


def _chain(name: str, lines: Iterable[str], about: str = "") -> str:
    head = f"\tchain {name} {{" + (f" # {about}" if about else "")
    return "\n".join([head, *(f"\t\t{line}" for line in lines), "\t}\n"])
