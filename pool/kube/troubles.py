"""What an API server's refusal, or a pod that does not come up, means in words for an operator. Pure."""

from __future__ import annotations

import msgspec

from pool.errors import SandboxStartFailed
from pool.kube.pods import ContainerStatus, Pod

IMAGE_TROUBLES = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
)
UNSCHEDULABLE = "unschedulable"
CONTAINER_TROUBLES = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


class ClusterError(Exception):
    """The API server said no, or nothing."""

    def __init__(self, status: int, reason: str, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(f"{status} {reason}: {message}" if status else message)
        self.status = status
        """Of HTTP; 0 where there was no answer."""
        self.reason = reason
        self.message = message
        self.retry_after_seconds = retry_after_seconds

    @property
    def is_gone(self) -> bool:
        return self.status == 404


class _Status(msgspec.Struct):
    """The part of `metav1.Status` that tells why something was refused."""

    reason: str = ""
    message: str = ""


_STATUS = msgspec.json.Decoder(_Status)


def refusal(status: int, body: bytes, retry_after: str = "") -> ClusterError:
    try:
        said = _STATUS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = _Status(message=body[:200].decode(errors="replace"))
    seconds = float(retry_after) if retry_after.isdecimal() else 0.0
    return ClusterError(status, said.reason, said.message, seconds)


def start_refused(error: ClusterError) -> SandboxStartFailed:
    """Why a pod was not made."""
    return SandboxStartFailed(f"the cluster did not take the pod: {error.message}", reason=_kind(error))


def not_seen(error: ClusterError) -> SandboxStartFailed:
    """Why nobody knows what becomes of a pod."""
    return SandboxStartFailed(f"the pods cannot be watched: {error.message}", reason=_kind(error))


def _kind(error: ClusterError) -> str:
    if error.status == 0 or error.status >= 500:
        return "api_unavailable"
    if error.status == 403:
        if "exceeded quota" in error.message:
            return "quota"
        return "pod_security" if "PodSecurity" in error.message else "rbac"
    return {401: "unauthorized", 404: "namespace", 429: "api_busy"}.get(error.status, "rejected")


def why_not_coming(pod: Pod) -> SandboxStartFailed | None:
    """What keeps a pod from ever being ready, as far as it says so; None while there is hope."""
    if pod.is_ending:
        return SandboxStartFailed(_last_words(pod), reason=_reason_of_end(pod))
    for container in pod.status.container_statuses:
        if trouble := _trouble_of(container):
            return trouble
    for condition in pod.status.conditions:
        if condition.type == "PodScheduled" and condition.status == "False" and condition.reason == "Unschedulable":
            return SandboxStartFailed(f"no node takes the pod: {condition.message}", reason=UNSCHEDULABLE)
    return None


def _trouble_of(container: ContainerStatus) -> SandboxStartFailed | None:
    waiting = container.state.waiting
    if waiting is None:
        return None
    if waiting.reason in IMAGE_TROUBLES:
        return SandboxStartFailed(f"the image cannot be had ({waiting.reason}): {waiting.message}", reason="image")
    if waiting.reason in CONTAINER_TROUBLES:
        return SandboxStartFailed(f"the container cannot be made: {waiting.message}", reason="container")
    return None


PRELOAD_FAILED = 70
"""`sandbox_runtime/pod/zygote.py`."""


def _reason_of_end(pod: Pod) -> str:
    codes = [each.state.terminated.exit_code for each in pod.status.container_statuses if each.state.terminated]
    return "preload" if PRELOAD_FAILED in codes else "lost"


def _last_words(pod: Pod) -> str:
    for container in pod.status.container_statuses:
        if terminated := container.state.terminated:
            return f"its container ended with {terminated.exit_code}: {terminated.message or terminated.reason}"
    return f"the pod ended by itself: {pod.status.reason or pod.status.phase or 'it was deleted'}"
