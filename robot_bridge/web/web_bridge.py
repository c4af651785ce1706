"""What the page's server needs of a bridge: three methods, callable from any thread.

`daemon.Bridge` has them; what the status contains is described there.
"""

from typing import Any, Protocol

from robot_bridge.observations import Frame


class Bridge(Protocol):
    """See the top of this file."""

    def status(self) -> dict[str, Any]:
        """Snapshot of the last tick as plain JSON values (`status.Status.to_json`)."""
        ...

    def frame(self, camera: str) -> Frame | None:
        """The newest picture of a camera."""
        ...

    def command(self, name: str, **arguments: Any) -> None:
        """Asks for something; ValueError with a reason when it cannot be."""
        ...
