#!/usr/bin/env bash
# Who owns what, and how a file is made: sourced by `deploy`, which says who the workers are (`uid`, `gid`).
#
# What root reads and runs (compose file, .env, settings, secrets) lies in folders that nobody else can change, so no name in
# them can be swapped. The workers' own folders are entries of those; below them root touches nothing by name: folders are
# made as the workers, and files change hands by a descriptor whose owner was looked at.
# shellcheck disable=SC2154

# trusted UID: whether this user may do what we do: we ourselves, root, and who asked root by sudo
trusted() { [[ $1 == 0 || $1 == "$EUID" || $1 == "${SUDO_UID:-0}" ]]; }

# safe_way DIR: that nobody else can put something in the place of DIR, or of a folder that leads to it
safe_way() {
    local part=$1 owner group mode
    while :; do
        if [[ -e $part ]]; then
            read -r owner group mode < <(stat -c '%u %g %a' -- "$part")
            trusted "$owner" || fail 1 "$part belongs to user $owner, who could put something else in the place of $1; nothing was changed. Name another folder, or take it over: chown $EUID ${part@Q}"
            if ((0$mode & 002 || 0$mode & 020 && group != 0 && group != $(id -g) && group != ${SUDO_GID:-0})) && ((!(0$mode & 01000))); then
                fail 1 "others may write to $part, and could put something else in the place of $1; nothing was changed. Name another folder, or: chmod go-w ${part@Q}"
            fi
        fi
        [[ $part != / ]] || return 0
        part=$(dirname -- "$part")
    done
}

# take_over: nothing that root is about to read or run belongs to somebody else, as it did to the workers before this release.
# Folders change hands first, from the top, so that from then on nothing in them can be swapped; of files a person decides.
take_over() {
    local owner links kind path found='' remove=() take=()
    if [[ ! -d $dest ]] || ((EUID != 0)); then return; fi
    while IFS= read -r -d '' path; do
        trusted "$(stat -c %u -- "$path")" || chown -h -- 0:0 "$path"
        chmod go-w -- "$path"
    done < <(find "$dest" -maxdepth 0 -print0 && find "$dest/.config" "$secrets" -type d -print0 2>/dev/null)
    while IFS=' ' read -r -d '' owner links kind path; do
        # A second name of a file may be one of root's, which somebody put here to have it given away.
        if ((links > 1)); then
            found+="  $path (has other names)"$'\n'
            remove+=("${path@Q}")
        elif ! trusted "$owner" && [[ $kind != f ]]; then
            found+="  $path (a link or the like of user $owner)"$'\n'
            remove+=("${path@Q}")
        elif ! trusted "$owner" && [[ ${path%/*} != "$secrets" ]]; then
            found+="  $path (user $owner)"$'\n'
            take+=("${path@Q}")
        fi
    done < <(
        find "$dest" -maxdepth 1 ! -type d \( -name '.env*' -o -name '*compose*' -o -name .deployed \) -printf '%U %n %y %p\0'
        find "$dest/.config" "$secrets" ! -type d -printf '%U %n %y %p\0' 2>/dev/null
    )
    [[ $found ]] || return 0
    fail 1 "others wrote these, who could so decide what root runs:
${found}the folders are root's now, nothing else was changed. Read them, .env and docker-compose.* above all, and deploy again after:$(
        ((${#take[@]} == 0)) || printf '\nchown 0:0 %s' "${take[*]}"
        ((${#remove[@]} == 0)) || printf '\nrm %s' "${remove[*]}")"
}

changed() {
    changes=$((changes + 1))
    say "$*"
}

# own MODE FILE: mode and owner of what lies in a folder of ours. Secrets belong to the workers, who alone may read them.
own() {
    chmod -- "$1" "$2"
    ((EUID == 0)) || return 0
    case $2 in
    "$secrets"/*) chown -h -- "$uid:$gid" "$2" ;;
    *) if [[ $1 == 640 ]]; then chown -h -- "0:$gid" "$2"; else chown -h -- 0:0 "$2"; fi ;;
    esac
}

# folder MODE DIR: there, and ours
folder() {
    if [[ ! -d $2 ]]; then
        mkdir -p -- "$2"
        changed "made $2/"
    fi
    chmod -- "$1" "$2"
}

# as_workers DIR COMMAND…: in DIR, with the workers' rights alone
as_workers() (
    cd -P -- "$1" || exit
    shift
    ((EUID != 0)) || exec setpriv --reuid "$uid" --regid "$gid" --clear-groups -- "$@"
    exec "$@"
)

# workers_folder DIR: an entry of a folder of ours, in which the workers do as they like
workers_folder() {
    local owner
    if [[ -L $1 ]]; then # the operator's own link to another disk: what it leads to is his to give
        owner=$(stat -L -c %u -- "$1" 2>/dev/null) || owner=none
        [[ $owner == "$uid" ]] || todo+=("$1 is a link to what belongs to user $owner, not to the workers: chown $uid:$gid $(readlink -f -- "$1")")
        return 0
    fi
    [[ ! -e $1 || -d $1 ]] || fail 1 "$1 is no folder"
    [[ -d $1 ]] || { mkdir -- "$1" && changed "made $1/"; }
    ((EUID == 0)) || return 0
    owner=$(stat -c %u -- "$1")
    [[ $owner == "$uid" || $owner == 0 ]] || { give_over "$owner" "$1" && changed "gave what user $owner wrote in $1/ to user $uid"; }
    chown -h -- "$uid:$gid" "$1"
    chmod 755 -- "$1"
}

# give_over UID DIR: the files and folders of earlier workers, and nobody else's, whatever a link in DIR leads to
give_over() {
    local why="user $1 wrote what is in $2, and user $uid cannot change it: stop what runs, then chown -hR --from=$1 $uid:$gid ${2@Q}"
    command -v perl >/dev/null || { todo+=("$why") && return 1; }
    # By descriptor: what has this name when it is opened is what is looked at, and what is given. shellcheck: the quotes are Perl's.
    # shellcheck disable=SC2016
    find "$2" -xdev \( -type f -o -type d \) -uid "$1" -print0 | perl -0 -MFcntl -e '
        my ($from, $uid, $gid) = @ARGV;
        while (<STDIN>) {
            chomp;
            sysopen(my $file, $_, O_RDONLY | O_NONBLOCK | O_NOFOLLOW) or next;
            my @is = stat $file;
            chown $uid, $gid, $file if @is and $is[4] == $from;
        }' "$1" "$uid" "$gid"
}

# record FILE: how it is when we wrote it, so that an edit is seen. Nothing of what is in it: secrets could be guessed from that.
record() { stat -c '%i %s %y' -- "$1"; }

# holds_password FILE: whether others must not read it
holds_password() {
    grep -qiE -e '://[^/[:blank:]:@]*:[^/[:blank:]@]+@' \
        -e '^[[:blank:]]*[a-z_]*(password|passwd|secret|token|access_key|api_key)[a-z_]*[[:blank:]]*[=:][[:blank:]]*["'\'']?[^[:blank:]"'\''$./<]' -- "$1"
}

# readable MODE FILE: the mode, unless an operator's file has a password in it: then for us alone, and for the workers who read settings
readable() {
    local mode=$1
    case $2 in "$dest"/.env*) mode=600 ;; "$dest"/.config/*) mode=640 ;; esac
    if [[ $mode != "$1" && $1 == 644 ]] && holds_password "$2"; then echo "$mode"; else echo "$1"; fi
}

# put MODE FILE: stdin becomes FILE, in one move. What an operator edited since we wrote it is kept beside it.
put() {
    local mode=$1 file=$2 new kept="" how=made
    new=$(mktemp "${file%/*}/.new.XXXXXX")
    cat >"$new"
    if [[ -e $file ]] && cmp -s -- "$new" "$file"; then
        rm -f -- "$new"
    else
        if [[ $file == */.env ]]; then own 600 "$new"; else own "$(readable "$mode" "$new")" "$new"; fi
        if [[ -e $file ]]; then how=changed; fi
        # .env holds an operator's own values also where we wrote it
        if [[ -e $file ]] && { [[ $file == */.env ]] || ! grep -qsFx -- "$(record "$file") $file" "$written"; }; then
            kept=$file.$(date +%Y%m%d-%H%M%S)
            cp -p -- "$file" "$kept"
            own "$(readable "$mode" "$kept")" "$kept"
        fi
        printf '%s %s\n' "$(record "$new")" "$file" >>"$written"
        mv -f -- "$new" "$file"
        changed "$how $file${kept:+; the old one is kept as $kept}"
    fi
    own "$(readable "$mode" "$file")" "$file"
}

# once MODE FILE: as put, but what is there already stays as it is
once() {
    if [[ -e $2 ]]; then
        cat >/dev/null
        own "$(readable "$1" "$2")" "$2"
    else put "$1" "$2"; fi
}

# init_env DIR: an empty archive tree for trials, made as the workers
init_env() {
    local digits shelves=() owner
    for digits in {00..99}; do
        shelves+=("Archive$((10#$digits / 25))/$digits")
    done
    if [[ ! -d $1 ]]; then
        safe_way "$1"
        mkdir -p -- "$1"
        ((EUID != 0)) || chown -h -- "$uid:$gid" "$1"
    fi
    owner=$(stat -L -c %u -- "$1")
    if [[ $owner != "$uid" && ! $(ls -A -- "$1") ]] && ((EUID == 0)); then
        safe_way "$1"
        chown -h -- "$uid:$gid" "$1"
    elif [[ $owner != "$uid" ]]; then
        fail 1 "$1 belongs to user $owner, and is not empty: the workers (user $uid) cannot make an archive in it. Name another folder, or give it to them: chown $uid:$gid ${1@Q}"
    fi
    if [[ ! -d $1/${shelves[99]} || ! -d $1/sync-transfer ]]; then
        as_workers "$1" mkdir -p -- "${shelves[@]}" sync-transfer
        changed "made an empty archive tree in $1/"
    fi
}
