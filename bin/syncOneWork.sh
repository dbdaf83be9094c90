#!/usr/bin/env bash
# Copy one work into the archive tree (and its images to an S3 prefix), then audit it. See docs/sync.md.
# Needs bash and coreutils; uses rsync, the aws CLI and audit-tool where they are installed.
set -euo pipefail
shopt -s globstar dotglob nullglob
export LC_ALL=C # names are bytes, whatever their script and normal form

readonly BATCH=1000 # names in one command: 255 bytes each at most, far below what a command line holds

usage() {
    cat <<'HELP'
Usage: syncOneWork.sh [-h] [-A] [-W] [-a archiveParent] [-w webParent] [-s successWorkList] workPath

Copies the work in the folder workPath, whose name is the work's RID.

  -a archiveParent    add the work to the archive tree, at {archiveParent}{0..3}/{00..99}/{RID}
                      (archiveParent is a prefix: /mnt/Archive, so /mnt/Archive2/51/W1FPL2251)
  -w webParent        add the work's images/ to {webParent}/{RID}/images on S3; needs -s and the aws CLI
  -A                  replace the work's whole archive tree instead of adding to it; needs -a
  -W                  replace the work's whole web tree instead of adding to it; needs -w
  -s successWorkList  append the RID to this file when everything succeeded
  -h                  this help

With neither -a nor -w only the audit tool is run. Without -A nothing that the archive holds is changed: a file that is
there with other content is an error, and then nothing is written at all.

Environment, all of it optional:
  LOCAL_AUDIT_OPTIONS      options of the audit tool for the work, before it is copied
  REPO_AUDIT_OPTIONS       options of the audit tool for the archive copy
  NO_REFRESH_WEB           anything: leave the web copy as it is
  AUDIT_TIME_LIMIT_SECONDS how long each run of the audit tool may take; default: as long as it likes
  auditToolLogDateTimeDir  where the audit tool writes its logs
  syncLogDateTimeDir       what became of the audits is told in audits.txt there
  DEBUG_SYNC               true: show every command on stderr (much for a work of many files)

Exit status: 0 all succeeded; 1 something did not; 2 wrong usage.
HELP
}

say() { printf '%s: %s\n' "${rid:-syncOneWork.sh}" "$*"; }
installed() { command -v -- "$1" >/dev/null; }
fail() {
    say "$*" >&2
    exit 1
}
misused() {
    printf 'syncOneWork.sh: %s\nsyncOneWork.sh -h shows how it is called\n' "$*" >&2
    exit 2
}

# in_batches NAMES COMMAND…: COMMAND with the array's names as its last arguments, as often as it takes
in_batches() {
    local -n all_names=$1
    local at
    shift
    for ((at = 0; at < ${#all_names[@]}; at += BATCH)); do
        "$@" "${all_names[@]:at:BATCH}" || return
    done
}

# list: the work's `files` and `folders`, relative to it; anything else is refused
list() {
    local name
    files=() folders=()
    cd -- "$work"
    for name in **; do
        [[ ! -L $name ]] || fail "$work/$name is a link; nothing was written"
        if [[ -f $name ]]; then
            files+=("$name")
        elif [[ -d $name ]]; then
            folders+=("$name")
        else
            fail "$work/$name is neither a file nor a folder; nothing was written"
        fi
    done
}

# sort_out FOLDER NAMES CERTAIN: which of the work's files FOLDER holds as well (into `same`), under which names it
# holds something else (`other`), and which it does not have (`absent`). Equal is what has equal size and mtime; where
# only the size is equal, or CERTAIN is yes, the content decides.
# shellcheck disable=SC2207 # what is split into words is numbers and digests only, one for each name, in order
sort_out() {
    local -n names=$2
    local -a there=() unsure=() ours theirs
    local at name
    same=() other=() absent=()
    for name in "${names[@]}"; do
        if [[ -f $1/$name && ! -L $1/$name ]]; then
            there+=("$name")
        elif [[ -e $1/$name || -L $1/$name ]]; then
            other+=("$name")
        else
            absent+=("$name")
        fi
    done
    ours=($(cd -- "$work" && in_batches there stat --printf '%s:%.9Y ' --))
    theirs=($(cd -- "$1" && in_batches there stat --printf '%s:%.9Y ' --))
    ((${#ours[@]} == ${#there[@]} && ${#theirs[@]} == ${#there[@]})) || fail "$1 changes under our hands"
    for at in "${!there[@]}"; do
        if [[ ${ours[at]%%:*} != "${theirs[at]%%:*}" ]]; then
            other+=("${there[at]}")
        elif [[ $3 == no && ${ours[at]} == "${theirs[at]}" ]]; then
            same+=("${there[at]}")
        else
            unsure+=("${there[at]}")
        fi
    done
    ((${#unsure[@]} > 0)) || return 0
    ours=($(cd -- "$work" && in_batches unsure b2sum -- | cut -d ' ' -f 1))
    theirs=($(cd -- "$1" && in_batches unsure b2sum -- | cut -d ' ' -f 1))
    ((${#ours[@]} == ${#unsure[@]} && ${#theirs[@]} == ${#unsure[@]})) || fail "$1 or the work cannot be read"
    for at in "${!unsure[@]}"; do
        if [[ ${ours[at]} == "${theirs[at]}" ]]; then same+=("${unsure[at]}"); else other+=("${unsure[at]}"); fi
    done
}

# keep_only FOLDER NAMES: nothing stays in FOLDER but the files named and the work's folders
keep_only() {
    local -n kept_names=$2
    local -A kept=()
    local name kind gone=()
    for name in "${kept_names[@]}"; do kept[file/$name]=1; done
    for name in "${folders[@]}"; do kept[folder/$name]=1; done
    cd -- "$1"
    for name in **; do
        if [[ -d $name && ! -L $name ]]; then kind='folder'; else kind='file'; fi
        [[ ${kept[$kind/$name]:-} ]] || gone+=("$name")
    done
    in_batches gone rm -rf -- || fail "$1 cannot be tidied up"
}

# attributes: which attributes the archive's file system takes for a file of the work, into `kept` as cp calls them.
# Some shares refuse times or modes, to this user or to all: content is copied all the same, and that is said.
attributes() {
    local name probe=$shelf/.$rid.probe from=${BASH_SOURCE[0]}
    ((${#files[@]} == 0)) || from=$work/${files[0]}
    kept=''
    rm -f -- "$probe"
    for name in mode timestamps; do
        if cp --attributes-only --preserve="$name" -- "$from" "$probe" 2>/dev/null; then
            kept+=${kept:+,}$name
        else
            say "the archive's file system does not take the ${name/timestamps/times} of files: they are not kept"
        fi
    done
    rm -f -- "$probe"
}

# durable SYNC-ARGUMENTS…: sync them; a file system that has no such thing (fsync(2): EINVAL) is no failure
durable() {
    local said line
    said=$(sync "$@" 2>&1) && return
    while IFS= read -r line; do
        [[ $line == *': Invalid argument' || $line == *': Function not implemented' || $line == *': Operation not supported' ]] || {
            printf '%s\n' "$said" >&2
            return 1
        }
    done <<<"$said"
}

# copy NAMES: the work's files of these names, and all its folders, into the hidden folder
copy() {
    local -n wanted=$1
    local kept keep
    attributes
    if [[ $kept ]]; then keep=--preserve=$kept; else keep=--no-preserve=all; fi
    cd -- "$work"
    if [[ ! -e $part && ! -e $target ]]; then
        # nothing to compare with or to go on from: cp copies inside the kernel, at a third of the CPU that rsync takes
        cp -RT "$keep" -- "$work" "$part" || fail "cp failed; what is complete is kept at $part"
    elif [[ $kept == mode,timestamps ]] && installed rsync; then # which makes no file where no mode can be set
        # without --fsync, one wait for each file: the file system is synced once, before any file gets its name
        mkdir -p -- "$part"
        printf './%s\0' "${folders[@]}" "${wanted[@]}" |
            rsync --dirs --perms --times --from0 --files-from=- -- "$work/" "$part/" ||
            fail "rsync exited $?; what is complete is kept at $part"
    else
        mkdir -p -- "$part"
        (cd -- "$part" && in_batches folders mkdir -p --) || fail "no folder can be made in $part"
        in_batches wanted cp --parents "$keep" -t "$part" -- ||
            fail "cp failed; what is complete is kept at $part"
    fi
}

# publish BELOW: give what is in the hidden folder its name in the archive; BELOW is empty or ends with a slash
publish() {
    local entry
    local -a moving=()
    for entry in "$part/$1"*; do
        if [[ -d $entry && -d $target/$1${entry##*/} ]]; then
            publish "$1${entry##*/}/"
        else
            moving+=("$entry")
        fi
    done
    in_batches moving mv -f -t "$target/$1" -- || fail "$target is partial; the rest is at $part"
}

# locate: where the work lies in the archive (`target`), and the hidden folder beside it (`part`)
locate() {
    local digits=00
    [[ ! ${rid: -2} =~ ^[0-9][0-9]$ ]] || digits=${rid: -2}
    shelf=$archive_parent$((10#$digits / 25))/$digits
    target=$shelf/$rid part=$shelf/.$rid.part
    [[ -d ${archive_parent%/*}/ ]] || fail "${archive_parent%/*} does not exist; it may be unmounted"
    [[ -d $shelf ]] || mkdir -p -- "$shelf" || fail "$shelf cannot be made"
    [[ ! -L $shelf && ! -L $target && ! -L $part ]] || fail "$target, or a folder on the way to it, is a link; refused"
    [[ -d $target || ! -e $target ]] || fail "$target is no folder; refused"
}

# survey: what the archive has of the work already: `there`, and `needed`, what is to be copied. Where it has other
# content and need not be replaced, that is the end.
survey() {
    local name
    local -a same=() other=() absent=("${files[@]}") blocked=()
    if [[ -d $target ]]; then
        for name in "${folders[@]}"; do
            if [[ -L $target/$name || -e $target/$name && ! -d $target/$name ]]; then blocked+=("$name"); fi
        done
        sort_out "$target" files no
    fi
    if ((${#other[@]} + ${#blocked[@]} > 0)) && [[ ! $replace_archive ]]; then
        printf '%q\n' "${other[@]}" "${blocked[@]}" >&2
        fail "$target has other content under these names; nothing was written; -A would replace it"
    fi
    there=("${same[@]}") needed=("${absent[@]}" "${other[@]}")
    if ((${#blocked[@]} > 0)); then there=() needed=("${files[@]}"); fi
}

# archive: the work into the archive tree. It is copied into a hidden folder on the same file system, synced, and then
# renamed: no file has its name in the archive before it is complete and durable. A killed run goes on where it was.
archive() {
    local -a there needed same other absent
    locate
    survey
    absent=("${needed[@]}") other=()
    if [[ -d $part ]]; then
        say "going on with what an earlier run left in $part"
        sort_out "$part" needed yes
        keep_only "$part" same
    fi
    absent+=("${other[@]}")
    if ((${#absent[@]} > 0)) || [[ ! -d $target && ! -d $part ]]; then copy absent; fi
    if [[ -d $part ]]; then
        sync -f -- "$part" 2>/dev/null || (cd -- "$part" && in_batches needed durable --) || fail "$part cannot be made durable"
        [[ ! $replace_archive || ! -d $target ]] || keep_only "$target" files
        if [[ -d $target ]]; then publish ''; else mv -T -- "$part" "$target"; fi
        rm -rf -- "$part"
    elif [[ $replace_archive ]]; then
        keep_only "$target" files
    fi
    (cd -- "$target" && in_batches folders durable -- && durable -- . ..) || fail "$target cannot be made durable"
    say "${#needed[@]} files added to $target, ${#there[@]} were there"
}

# web: the work's images to S3; the aws CLI adds what is new or changed, and deletes only for -W
web() {
    local -a delete=()
    if [[ ${NO_REFRESH_WEB:-} ]]; then
        say 'NO_REFRESH_WEB is set: the web copy stays as it is'
    elif [[ ! -d $work/images ]]; then
        say 'no images, so no web copy'
    else
        [[ ! $replace_web ]] || delete=(--delete)
        LC_ALL=C.UTF-8 aws s3 sync --only-show-errors --no-follow-symlinks "${delete[@]}" "$work/images" "${web_parent%/}/$rid/images" ||
            fail "aws exited $?; the web copy at ${web_parent%/}/$rid/images may be partial"
        say "images are at ${web_parent%/}/$rid/images"
    fi
}

# audit WHEN FOLDER OPTIONS: the audit tool, where it is installed; WHEN is pre or post, OPTIONS are words separated by
# blanks. What comes of it is told in audits.txt, where there is a place for it.
audit() {
    local -a command=(audit-tool) options=()
    local status=0
    if ! installed audit-tool; then
        say "audit-tool is not installed: $2 is not audited"
        audited "$1" 'not run: audit-tool is not installed'
        return
    fi
    # in the foreground: in a group of its own it would outlive this script
    [[ ! ${AUDIT_TIME_LIMIT_SECONDS:-} ]] || command=(timeout --foreground -k 5 "$AUDIT_TIME_LIMIT_SECONDS" audit-tool)
    if [[ ${auditToolLogDateTimeDir:-} ]]; then
        mkdir -p -- "$auditToolLogDateTimeDir"
        command+=(-l "$auditToolLogDateTimeDir")
    fi
    read -r -d '' -a options <<<"$3" || true # its status says only that the text has ended
    LC_ALL=C.UTF-8 "${command[@]}" "${options[@]}" "$2" || status=$? # names are UTF-8 to it
    case $status in
    0) audited "$1" passed ;;
    1) audited "$1" failed ;;
    124 | 137) audited "$1" "timed out: after ${AUDIT_TIME_LIMIT_SECONDS:-?} s" ;;
    *) audited "$1" "broke off: exit status $status" ;;
    esac
    ((status == 0)) || fail "audit-tool exited $status for $2"
}
audited() { [[ ! ${syncLogDateTimeDir:-} ]] || printf '%s %s\n' "$1" "$2" >>"$syncLogDateTimeDir/audits.txt"; }

# absolute PATH: as an absolute path, which no command can take for an option
absolute() { if [[ $1 == /* ]]; then printf '%s' "$1"; else printf '%s/%s' "$PWD" "$1"; fi; }

read_arguments() {
    local option
    while getopts ':hAWa:w:s:' option; do
        case $option in
        h) usage && exit 0 ;;
        A) replace_archive=yes ;;
        W) replace_web=yes ;;
        a) archive_parent=$OPTARG ;;
        w) web_parent=$OPTARG ;;
        s) success_list=$OPTARG ;;
        :) misused "-$OPTARG needs a value" ;;
        *) misused "there is no option -$OPTARG" ;;
        esac
    done
    shift $((OPTIND - 1))
    (($# == 1)) || misused "one workPath is needed, and $# were given"
    [[ ! $replace_archive || $archive_parent ]] || misused '-A needs -a'
    [[ ! $replace_web || $web_parent ]] || misused '-W needs -w'
    [[ ! $web_parent || $success_list ]] || misused '-w needs -s'
    work=$1
    while [[ $work == */ && $work != / ]]; do work=${work%/}; done
    work=$(absolute "$work")
    [[ ! $archive_parent ]] || archive_parent=$(absolute "$archive_parent")
    [[ ! $success_list ]] || success_list=$(absolute "$success_list")
    rid=${work##*/}
}

main() {
    local rid='' work='' archive_parent='' web_parent='' success_list='' replace_archive='' replace_web=''
    local target='' part='' shelf=''
    local -a files folders
    read_arguments "$@"
    [[ -d $work && ! -L $work ]] || misused "$work is no folder"
    [[ $rid && $rid != [.-]* && $rid != *[[:cntrl:]]* ]] || misused "the name of $work is no work identifier"
    [[ ! $web_parent ]] || installed aws || fail 'the aws CLI is not installed: no web copy can be made'
    [[ ${DEBUG_SYNC:-} != true ]] || set -x
    list
    audit pre "$work" "${LOCAL_AUDIT_OPTIONS:-}"
    if [[ $archive_parent ]]; then
        archive
        audit post "$target" "${REPO_AUDIT_OPTIONS:-}"
    fi
    [[ ! $web_parent ]] || web
    if [[ $success_list ]]; then printf '%s\n' "$rid" >>"$success_list"; fi
}

main "$@"
