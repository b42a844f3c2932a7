"""Connecting to Kafka: servers, TLS and SASL, for aiokafka's clients and for Faust."""

import ssl
from collections.abc import Mapping
from typing import Any

import faust
from aiokafka.conn import create_conn
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth, server_list
from faust.utils.urls import urllist

from penstock.broker.kafka import reading  # noqa: F401 -- for every consumer that connects
from penstock.errors import SettingsError
from penstock.settings import Settings

PORT = 9092


def servers(settings: Settings) -> list[str]:
    """Return HOST:PORT of each server."""
    return server_list(urllist(settings.broker_url), PORT)


def credentials(settings: Settings) -> Any:
    """Return Faust's credentials, None for a Kafka that asks for none. Raises `SettingsError`."""
    context = _tls(settings)
    if settings.kafka_sasl:
        if not settings.kafka_user or not settings.kafka_password:
            raise SettingsError(
                f"PENSTOCK_KAFKA_SASL={settings.kafka_sasl} needs PENSTOCK_KAFKA_USER and"
                " PENSTOCK_KAFKA_PASSWORD"
            )
        return faust.SASLCredentials(
            username=settings.kafka_user,
            password=settings.kafka_password,
            mechanism=settings.kafka_sasl,
            ssl_context=context,
        )
    if settings.kafka_user or settings.kafka_password:
        raise SettingsError(
            "PENSTOCK_KAFKA_USER and PENSTOCK_KAFKA_PASSWORD need PENSTOCK_KAFKA_SASL: PLAIN,"
            " SCRAM-SHA-256 or SCRAM-SHA-512"
        )
    return None if context is None else faust.SSLCredentials(context=context)


def connection(settings: Settings) -> dict[str, Any]:
    """Return the options of aiokafka's clients. Raises `SettingsError`."""
    return {
        "bootstrap_servers": servers(settings),
        **credentials_to_aiokafka_auth(credentials(settings), None),
    }


async def check_access(connection: Mapping[str, Any]) -> None:
    """Find out whether the servers of `connection` accept its credentials and certificates; raises
    `SettingsError` when one does not. aiokafka's clients only say that they cannot connect."""
    if connection["security_protocol"] == "PLAINTEXT":
        return
    options = {key: value for key, value in connection.items() if key != "bootstrap_servers"}
    mechanism = connection.get("sasl_mechanism")
    for server in connection["bootstrap_servers"]:
        host, _, port = server.rpartition(":")
        try:
            found = await create_conn(host.strip("[]"), int(port), **options)
        except SaslAuthenticationFailed as exc:
            raise SettingsError(
                f"Kafka at {server} refuses PENSTOCK_KAFKA_USER and PENSTOCK_KAFKA_PASSWORD: {exc}"
            ) from exc
        except (UnsupportedSaslMechanismError, IllegalSaslStateError) as exc:
            raise SettingsError(
                f"Kafka at {server} does not offer PENSTOCK_KAFKA_SASL={mechanism}"
            ) from exc
        except (KafkaError, OSError) as exc:
            if why := _mistrust(exc):
                raise SettingsError(f"Kafka at {server} {why}") from exc
            continue  # away, for all we know
        found.close()


def _mistrust(error: BaseException) -> str | None:
    """Return what is wrong with which certificate; None for an error that may pass."""
    # With TLS 1.3 a server refuses after the handshake, so its alert ends the first request.
    cause = error if isinstance(error, ssl.SSLError) else error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            f"has a certificate that is not trusted: {cause.verify_message}. PENSTOCK_KAFKA_CA is"
            " the file of those that are"
        )
    if isinstance(cause, ssl.SSLError) and "ALERT" in (cause.reason or ""):
        return (
            "does not accept this client's certificate, or the lack of one (PENSTOCK_KAFKA_CERT,"
            f" PENSTOCK_KAFKA_KEY): {cause.reason}"
        )
    return None


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if not settings.kafka_tls:
        if settings.kafka_ca or settings.kafka_cert or settings.kafka_key:
            raise SettingsError(
                "PENSTOCK_KAFKA_CA, PENSTOCK_KAFKA_CERT and PENSTOCK_KAFKA_KEY need"
                " PENSTOCK_KAFKA_TLS=on"
            )
        return None
    if settings.kafka_key and not settings.kafka_cert:
        raise SettingsError("PENSTOCK_KAFKA_KEY needs PENSTOCK_KAFKA_CERT, the certificate of it")
    try:
        context = ssl.create_default_context(cafile=settings.kafka_ca or None)
    except (OSError, ssl.SSLError) as exc:
        raise SettingsError(
            f"PENSTOCK_KAFKA_CA={settings.kafka_ca}: no certificates can be read from it: {exc}"
        ) from exc
    if settings.kafka_cert:
        key = settings.kafka_key or settings.kafka_cert

        def passphrase() -> str:
            # OpenSSL would ask whoever sits at the terminal.
            raise SettingsError(
                f"PENSTOCK_KAFKA_KEY={key} asks for a passphrase; a worker needs a key without one"
            )

        try:
            context.load_cert_chain(settings.kafka_cert, key, passphrase)
        except (OSError, ssl.SSLError) as exc:
            raise SettingsError(
                f"PENSTOCK_KAFKA_CERT={settings.kafka_cert}: cannot be used with"
                f" PENSTOCK_KAFKA_KEY={key}: {exc}"
            ) from exc
    return context
