"""The config file: `load()` gives frozen `Settings`, or every problem of the file at once (DESIGN.md section 10)."""

from gateway.settings.addresses import Address
from gateway.settings.load import load
from gateway.settings.problems import Problem, SettingsError
from gateway.settings.values import (
    DatabaseSettings,
    GuestSettings,
    ListenSettings,
    LoggingSettings,
    PublicSettings,
    RoleSettings,
    SessionSettings,
    Settings,
    UpstreamSettings,
    UserSettings,
)

__all__ = [
    "Address",
    "DatabaseSettings",
    "GuestSettings",
    "ListenSettings",
    "LoggingSettings",
    "Problem",
    "PublicSettings",
    "RoleSettings",
    "SessionSettings",
    "Settings",
    "SettingsError",
    "UpstreamSettings",
    "UserSettings",
    "load",
]
