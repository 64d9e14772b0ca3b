//! Which options of which programs take secrets that their names do not tell.

/// How a secret stands in what an option takes.
#[derive(Clone, Copy)]
pub(super) enum Takes {
    /// It is the next argument, or follows a short option directly.
    Value,
    /// It may as well be the name of a file.
    OrFile,
    /// It is the next argument; what follows the option directly is another option.
    Next,
    /// It follows the option directly; where nothing does, the program asks.
    Attached,
    /// After the first of this in the next argument: `user:password`.
    After(u8),
    /// `Name: value`, which is looked at by its name; its value is hidden whole if it begins with a scheme.
    Header,
    /// A value of its own for each argument that follows: `NAME=VALUE`.
    Pairs,
    /// It is the so manieth word from here that is no option.
    Nth(u8),
    /// From here on, these count.
    Then(&'static Program),
}

/// What a program, or a command of it, makes of its arguments.
pub(super) struct Program {
    pub(super) options: &'static [(&'static str, Takes)],
    /// Short options without values, which others can be joined with: `-su`.
    pub(super) switches: &'static [u8],
}

const fn of(options: &'static [(&'static str, Takes)]) -> Program {
    Program {
        options,
        switches: b"",
    }
}

use Takes::{After, Attached, Header, Next, Nth, OrFile, Pairs, Then, Value};

static MYSQL: Program = of(&[("-p", Attached)]);
static VALUE_P: Program = of(&[("-p", Value)]);
static BIG_P: Program = of(&[("-P", Value)]);
static LOGIN: Program = of(&[("-p", Value)]);
static CONTAINERS: Program = of(&[
    ("login", Then(&LOGIN)),
    ("--creds", After(b':')),
    ("--src-creds", After(b':')),
    ("--dest-creds", After(b':')),
]);
static CURL: Program = Program {
    options: &[
        ("-u", After(b':')),
        ("-U", After(b':')),
        ("--user", After(b':')),
        ("--proxy-user", After(b':')),
        ("-H", Header),
        ("--header", Header),
        ("--proxy-header", Header),
        ("-E", After(b':')),
        ("--cert", After(b':')),
        ("-b", OrFile),
        ("--cookie", OrFile),
        ("--pass", Value),
    ],
    switches: b"aBfgGiIjJklLnNOpqRsSv#0123469Z",
};
static WGET: Program = of(&[("--header", Header)]);
static HTTPIE: Program = of(&[("-a", After(b':')), ("--auth", After(b':'))]);
static AB: Program = of(&[
    ("-A", After(b':')),
    ("-P", After(b':')),
    ("-H", Header),
    ("-C", Value),
]);
static OPENSSL: Program = of(&[
    ("-k", Next),
    ("-K", Next),
    ("-hmac", Next),
    ("-pass", OrFile),
    ("-passin", OrFile),
    ("-passout", OrFile),
    ("-macopt", After(b':')),
]);
static REDIS: Program = of(&[
    ("-a", Value),
    ("--pass", Value),
    ("AUTH", Value),
    ("auth", Value),
    ("requirepass", Value),
    ("masterauth", Value),
]);
static LDAP: Program = of(&[("-w", Value), ("-s", Value), ("-a", Value)]);
static LDAP_SEARCH: Program = of(&[("-w", Value)]);
static SMB: Program = of(&[("-U", After(b'%')), ("--user", After(b'%'))]);
static ZIP: Program = of(&[("-P", Value)]);
static SEVEN_ZIP: Program = of(&[("-p", Attached), ("-hp", Attached)]);
static SNMP: Program = of(&[("-c", Value), ("-A", Value), ("-X", Value)]);
static USERS: Program = of(&[("-p", Value)]);
static HTPASSWD: Program = of(&[
    ("-b", Nth(3)),
    ("-cb", Nth(3)),
    ("-bc", Nth(3)),
    ("-bB", Nth(3)),
    ("-Bb", Nth(3)),
    ("-cbB", Nth(3)),
    ("-bcB", Nth(3)),
    ("-nb", Nth(2)),
    ("-bn", Nth(2)),
    ("-nbB", Nth(2)),
    ("-bnB", Nth(2)),
    ("-Bbn", Nth(2)),
    ("-nbBC", Nth(3)),
    ("-bnBC", Nth(3)),
]);
static RDP: Program = of(&[("/p:", Attached), ("-p", Value)]);
static LFTP: Program = of(&[("-u", After(b','))]);
static ORACLE: Program = of(&[("userid", Value)]);
static NMCLI: Program = of(&[
    ("password", Value),
    ("wifi-sec.psk", Value),
    ("802-11-wireless-security.psk", Value),
    ("802-1x.password", Value),
]);
static VAULT: Program = of(&[
    ("unseal", Value),
    ("login", OrFile),
    ("put", Then(&VAULT_PUT)),
    ("patch", Then(&VAULT_PUT)),
]);
static VAULT_PUT: Program = of(&[("", Pairs)]);
static KUBECTL: Program = of(&[("secret", Then(&KUBE_SECRET))]);
static KUBE_SECRET: Program = of(&[("--from-literal", After(b'='))]);
static SECRETS: Program = of(&[
    ("secret", Then(&SECRET)),
    ("secrets", Then(&SECRET)),
    ("secret:set", Then(&SECRET)),
]);
static SECRET: Program = of(&[
    ("-b", Value),
    ("--body", Value),
    ("--secret-string", Value),
    ("", Pairs),
]);
static AWS: Program = of(&[
    ("aws_secret_access_key", Value),
    ("aws_session_token", Value),
    ("--secret-string", Value),
    ("--master-user-password", Value),
    ("put-parameter", Then(&PARAMETER)),
]);
static PARAMETER: Program = of(&[("--value", Value)]);
static AZURE: Program = of(&[
    ("login", Then(&LOGIN)),
    ("secret", Then(&PARAMETER)),
    ("-p", Value),
    ("--account-key", Value),
    ("--admin-password", Value),
]);
static RABBIT: Program = of(&[
    ("add_user", Nth(2)),
    ("change_password", Nth(2)),
    ("authenticate_user", Nth(2)),
]);
static MINIO: Program = of(&[("set", Nth(4)), ("add", Nth(3))]);
static ANSIBLE_VAULT: Program = of(&[("encrypt_string", Value)]);
static ETCD: Program = of(&[("--user", After(b':'))]);
static NET: Program = of(&[("-U", After(b'%')), ("user", Nth(2))]);
static SMTP: Program = of(&[("-xp", Value), ("-ap", Value), ("--auth-password", Value)]);
static GPG: Program = of(&[("--passphrase", Value)]);
static WIFI: Program = of(&[("key", Value)]);
static DOCTL: Program = of(&[("-t", Value)]);
static MOSQUITTO: Program = of(&[("-P", Value), ("--pw", Value)]);
static IMPACKET: Program = of(&[
    ("-hashes", Value),
    ("-H", Value),
    ("-p", Value),
    ("--hashes", Value),
]);
static SWAKS: Program = of(&[("-ap", Value), ("--auth-password", Value)]);
static PUTTY: Program = of(&[("-pw", Value)]);
static SSH_KEYS: Program = of(&[("-N", Value), ("-P", Value)]);
static GRAFANA: Program = of(&[("reset-admin-password", Value)]);
static BITWARDEN: Program = of(&[("unlock", Value), ("login", Nth(2))]);
static PIN: Program = of(&[("-p", Value), ("--pin", Value), ("--so-pin", Value)]);

/// What the program of this name, without its directory, makes of its arguments.
pub(super) fn named(name: &[u8]) -> Option<&'static Program> {
    // The longest has 18 bytes; most words of a command line are no program.
    if !(2..=24).contains(&name.len()) {
        return None;
    }
    Some(match name {
        b"mysql" | b"mysqldump" | b"mysqladmin" | b"mysqlimport" | b"mysqlcheck" | b"mysqlshow"
        | b"mysqlslap" | b"mysqlpump" | b"mysqlbinlog" | b"mysqlsh" | b"mariadb" | b"mariadb-dump"
        | b"mariadb-admin" | b"mariadb-import" | b"mariadb-check" | b"mariabackup" | b"xtrabackup"
        | b"mycli" | b"mydumper" | b"myloader" => &MYSQL,
        b"sshpass" | b"mongo" | b"mongosh" | b"mongodump" | b"mongorestore" | b"mongoexport"
        | b"mongoimport" | b"mongostat" | b"mongotop" | b"cqlsh" | b"ncftp" | b"ncftpput" | b"ncftpget"
        | b"evil-winrm" | b"winrs" | b"influx" | b"vncdo" | b"arangosh" | b"couchbase-cli"
        | b"cypher-shell" | b"neo4j-client" | b"rabbitmqadmin" | b"poetry" | b"steghide" | b"twine" => {
            &VALUE_P
        }
        b"plink" | b"pscp" | b"psftp" | b"putty" => &PUTTY,
        b"ssh-keygen" => &SSH_KEYS,
        b"grafana-cli" | b"grafana" => &GRAFANA,
        b"bw" => &BITWARDEN,
        b"sqlcmd" | b"bcp" | b"tsql" | b"isql" | b"ipmitool" | b"freetds" | b"fisql" => &BIG_P,
        b"docker" | b"podman" | b"nerdctl" | b"buildah" | b"skopeo" | b"helm" | b"crane" | b"oras"
        | b"ctr" | b"regctl" => &CONTAINERS,
        b"curl" | b"curlie" => &CURL,
        b"wget" | b"wget2" | b"xh" | b"hey" | b"wrk" => &WGET,
        b"http" | b"https" | b"httpie" => &HTTPIE,
        b"ab" => &AB,
        b"openssl" => &OPENSSL,
        b"redis-cli" | b"valkey-cli" | b"keydb-cli" | b"redis-benchmark" => &REDIS,
        b"ldapsearch" | b"ldapwhoami" | b"ldapcompare" | b"ldapmodify" | b"ldapadd" | b"ldapdelete"
        | b"ldapmodrdn" => &LDAP_SEARCH,
        b"ldappasswd" => &LDAP,
        b"smbclient" | b"rpcclient" | b"smbmap" | b"smbget" | b"wmic" | b"winexe" | b"smbcacls"
        | b"smbtree" => &SMB,
        b"zip" | b"unzip" | b"zipcloak" => &ZIP,
        b"7z" | b"7za" | b"7zr" | b"7zz" | b"rar" | b"unrar" => &SEVEN_ZIP,
        b"snmpwalk" | b"snmpget" | b"snmpset" | b"snmpbulkwalk" | b"snmptrap" | b"snmpgetnext" => &SNMP,
        b"useradd" | b"usermod" | b"adduser" => &USERS,
        b"htpasswd" => &HTPASSWD,
        b"xfreerdp" | b"xfreerdp3" | b"wlfreerdp" | b"rdesktop" => &RDP,
        b"lftp" | b"open" => &LFTP,
        b"imp" | b"exp" | b"impdp" | b"expdp" => &ORACLE,
        b"nmcli" => &NMCLI,
        b"vault" | b"bao" => &VAULT,
        b"kubectl" | b"oc" | b"k3s" | b"microk8s" => &KUBECTL,
        b"gh" | b"fly" | b"flyctl" | b"supabase" | b"wrangler" => &SECRETS,
        b"aws" => &AWS,
        b"az" => &AZURE,
        b"rabbitmqctl" => &RABBIT,
        b"mc" | b"mcli" => &MINIO,
        b"ansible-vault" => &ANSIBLE_VAULT,
        b"etcdctl" => &ETCD,
        b"net" => &NET,
        b"sendemail" | b"sendEmail" | b"msmtp" => &SMTP,
        b"gpg" | b"gpg2" => &GPG,
        b"iwconfig" => &WIFI,
        b"doctl" => &DOCTL,
        b"mosquitto_pub" | b"mosquitto_sub" | b"mosquitto_rr" => &MOSQUITTO,
        b"crackmapexec"
        | b"cme"
        | b"netexec"
        | b"nxc"
        | b"secretsdump.py"
        | b"psexec.py"
        | b"wmiexec.py"
        | b"smbexec.py"
        | b"GetUserSPNs.py"
        | b"impacket-secretsdump"
        | b"impacket-psexec"
        | b"bloodhound-python" => &IMPACKET,
        b"swaks" => &SWAKS,
        b"pkcs11-tool" | b"pkcs15-tool" => &PIN,
        _ => return None,
    })
}

/// The word of a program from which on a count begins, for those that take nothing but words.
pub(super) fn counts(name: &[u8]) -> Option<u8> {
    match name {
        b"wpa_passphrase" => Some(2),
        _ => None,
    }
}

/// Programs whose first word is `user/password@database`.
pub(super) fn is_oracle(name: &[u8]) -> bool {
    matches!(
        name,
        b"sqlplus" | b"sqlldr" | b"expdp" | b"impdp" | b"exp" | b"imp" | b"rman" | b"sql"
    )
}

/// Programs that take `--password` without a value, to ask for it.
pub(super) fn asks(name: &[u8]) -> bool {
    matches!(
        name,
        b"psql"
            | b"pg_dump"
            | b"pg_restore"
            | b"pg_dumpall"
            | b"pg_basebackup"
            | b"createdb"
            | b"dropdb"
            | b"createuser"
            | b"dropuser"
            | b"vacuumdb"
            | b"reindexdb"
            | b"clusterdb"
            | b"pg_isready"
            | b"pg_receivewal"
    )
}
