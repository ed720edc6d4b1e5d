//! The rows about users and roles.

use super::{limited, refused, same};
use crate::probe::Probe;

pub const AUTH: &[Probe] = &[
    refused(
        "Auth.AuthEnable",
        "users and their rights are kept in files",
        &["Auth.AuthEnable"],
    ),
    refused(
        "Auth.AuthDisable",
        "users and their rights are kept in files",
        &["Auth.AuthDisable"],
    ),
    limited(
        "Auth.AuthStatus",
        "as in etcd 3.5, which introduced it",
        &["Auth.AuthStatus"],
    ),
    same(
        "Auth.Authenticate",
        &["Auth.Authenticate name: 'root' password: 'p'"],
    ),
    same(
        "AuthenticateRequest.name",
        &["Auth.Authenticate name: 'root' password: 'p'"],
    ),
    same(
        "AuthenticateRequest.password",
        &["Auth.Authenticate name: 'root' password: 'p'"],
    ),
    refused(
        "Auth.UserAdd",
        "users and their rights are kept in files",
        &["Auth.UserAdd"],
    ),
    refused(
        "Auth.UserGet",
        "users and their rights are kept in files",
        &["Auth.UserGet"],
    ),
    refused(
        "Auth.UserList",
        "users and their rights are kept in files",
        &["Auth.UserList"],
    ),
    refused(
        "Auth.UserDelete",
        "users and their rights are kept in files",
        &["Auth.UserDelete"],
    ),
    refused(
        "Auth.UserChangePassword",
        "users and their rights are kept in files",
        &["Auth.UserChangePassword"],
    ),
    refused(
        "Auth.UserGrantRole",
        "users and their rights are kept in files",
        &["Auth.UserGrantRole"],
    ),
    refused(
        "Auth.UserRevokeRole",
        "users and their rights are kept in files",
        &["Auth.UserRevokeRole"],
    ),
    refused(
        "Auth.RoleAdd",
        "users and their rights are kept in files",
        &["Auth.RoleAdd"],
    ),
    refused(
        "Auth.RoleGet",
        "users and their rights are kept in files",
        &["Auth.RoleGet"],
    ),
    refused(
        "Auth.RoleList",
        "users and their rights are kept in files",
        &["Auth.RoleList"],
    ),
    refused(
        "Auth.RoleDelete",
        "users and their rights are kept in files",
        &["Auth.RoleDelete"],
    ),
    refused(
        "Auth.RoleGrantPermission",
        "users and their rights are kept in files",
        &["Auth.RoleGrantPermission"],
    ),
    refused(
        "Auth.RoleRevokePermission",
        "users and their rights are kept in files",
        &["Auth.RoleRevokePermission"],
    ),
];
