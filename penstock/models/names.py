"""Names of models: `PROVIDER/NAME`, or the address of any compatible server."""

import dataclasses
import pathlib
from urllib.parse import urlsplit

from penstock.errors import SettingsError, did_you_mean
from penstock.models.local import weights
from penstock.settings import Settings

OFFLINE = "offline/storyteller"
MISTRAL_URL = "https://api.mistral.ai/v1"
OLLAMA_URL = "http://localhost:11434"
PROVIDERS = ("offline", "openai", "ollama", "mistral", "local")
FORMS = (
    "offline, openai/NAME, ollama/NAME, mistral/NAME, local/PATH.gguf or http://HOST:PORT/v1#NAME"
)


@dataclasses.dataclass(frozen=True)
class Target:
    """Where a model is: `name` as its server knows it, `label` as Penstock writes it down.

    `base_url` is None for OpenAI itself, and for the weights in `file`, which this process serves.
    `name` is empty for the SDK's default model.
    """

    provider: str
    name: str
    base_url: str | None = None
    api_key: str = dataclasses.field(default="", repr=False)
    file: pathlib.Path | None = None

    @property
    def label(self) -> str:
        return f"{self.provider}/{self.name or 'default'}"

    @property
    def server(self) -> str:
        """The label, with the address where no provider's name says it: two servers may call their
        models the same."""
        if self.provider != "server":
            return self.label
        url = urlsplit(self.base_url or "")
        return f"{self.label} at {url.netloc.rpartition('@')[2]}{url.path}"

    @property
    def calls_at_once(self) -> int | None:
        """How many calls it takes at once at first: few on one's own machine, which queues them."""
        return 2 if self.provider in ("ollama", "local") else None


def split(text: str) -> tuple[str, str]:
    """The provider and the model's name in `PROVIDER/NAME`. Raises `SettingsError` when there is no
    such provider."""
    provider, _, name = text.partition("/")
    if provider not in PROVIDERS:
        hint = did_you_mean(provider, PROVIDERS)
        raise SettingsError(f"model {text!r}: '{provider}' is not a provider.{hint} Use {FORMS}.")
    return provider, name


def resolve(text: str, settings: Settings) -> Target:
    """The model that `text` names, or the settings' when it is empty.

    Raises `SettingsError` that says which names there are, or which key or file is missing.
    """
    text = text or settings.model
    if not text:
        text = "openai/" if settings.openai_api_key or settings.openai_base_url else OFFLINE
    if text.startswith(("http://", "https://")):
        url, _, name = text.partition("#")
        if not _host(url):
            raise SettingsError(
                f"model {text!r}: there is no host in this address, or no port. Use {FORMS}."
            )
        return Target("server", name or "default", url, _key_for(url, settings) or "none")
    provider, name = split(text)
    if provider == "offline":
        if name not in ("", "storyteller"):
            raise SettingsError(f"model {text!r}: the offline model is '{OFFLINE}'")
        return Target("offline", "storyteller")
    if provider == "openai":
        key, base_url = settings.openai_api_key, settings.openai_base_url or None
        if not key and not base_url:
            raise SettingsError(
                f"model {text!r}: OPENAI_API_KEY is not set. Set it, or use another model: {FORMS}."
            )
        return Target("openai", name, base_url, key or "none")
    if provider == "local":
        return Target("local", name, file=weights.find(name, settings.root))
    if not name:
        raise SettingsError(f"model {text!r}: the name is missing: {provider}/NAME")
    if provider == "ollama":
        return Target("ollama", name, f"{_ollama_url(settings.ollama_host)}/v1", "ollama")
    if not settings.mistral_api_key:
        raise SettingsError(
            f"model {text!r}: MISTRAL_API_KEY is not set. Set it, or use another model: {FORMS}."
        )
    return Target("mistral", name, MISTRAL_URL, settings.mistral_api_key)


def _key_for(url: str, settings: Settings) -> str:
    """The key, when `url` is on the server that the settings give it to: a card comes from anybody,
    and must not send it elsewhere by naming an address."""
    own, there = urlsplit(settings.openai_base_url), urlsplit(url)
    same = (own.scheme, own.hostname, own.port) == (there.scheme, there.hostname, there.port)
    return settings.openai_api_key if same else ""


def _host(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        return parts.hostname if parts.port != 0 else None  # a port that is none raises here
    except ValueError:
        return None


def _ollama_url(host: str) -> str:
    """The server's address from OLLAMA_HOST, as Ollama's own tools read it: without a scheme, what
    is not there is localhost and port 11434."""
    if not host or "://" in host:
        return (host or OLLAMA_URL).rstrip("/")
    try:
        url = urlsplit(f"http://{host}")
        port = url.port or 11434
    except ValueError as exc:
        raise SettingsError(f"OLLAMA_HOST={host!r}: {exc}. Expected HOST:PORT.") from exc
    name = url.netloc.rpartition("@")[2].removesuffix(f":{url.port}") or "localhost"
    return f"http://{name}:{port}{url.path.rstrip('/')}"
