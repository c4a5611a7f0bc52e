/* Stands between SQLite and the disk: counts what it writes, lets the n-th call fail or be the last, and keeps a log.

Preloaded into a process. What it does is told by a block of memory that the process shares with whoever started it: see
`shim.py`, which has the same layout. It looks at the files of one folder only, and not at SQLite's locks and its
shared memory, which say nothing that must outlive a process. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, TRUNCATE = 4, UNLINK = 8, CREATE = 16 };
enum { PASS, FAIL, FULL, SHORT, KILL_BEFORE, KILL_TORN, KILL_AFTER };

struct control {
    uint64_t at;         /* the call of these kinds that is struck, counted from 1 */
    uint64_t kinds;
    uint64_t action;
    uint64_t lasting;    /* and all after it */
    uint64_t error;      /* errno of what fails */
    uint64_t seen;       /* calls of these kinds since it was armed */
    uint64_t fired;      /* how many were struck */
    uint64_t calls;      /* calls of any kind, ever */
    uint64_t generation; /* of the log: another one is another file */
    uint64_t busy, commits; /* for Python */
    char folder[1024];
    char log[1024];      /* empty: none is kept */
};

struct record {
    uint8_t kind, name_length, failed, padding[5];
    int64_t offset, length;
};

static struct control *control;
static char *names[4096]; /* by descriptor: the name of a file of the folder, "" for the folder itself */
static int log_file = -1;
static uint64_t log_generation;
static char log_buffer[1 << 17];

static int (*real_open)(const char *, int, ...);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_ftruncate)(int, off_t);
static int (*real_unlink)(const char *);
static int (*real_close)(int);

__attribute__((constructor)) static void begin(void) {
    real_open = dlsym(RTLD_NEXT, "open64");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_write = dlsym(RTLD_NEXT, "write");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_close = dlsym(RTLD_NEXT, "close");
    const char *path = getenv("ACTORFSM_DISK");
    if (path == NULL)
        return;
    int file = real_open(path, O_RDWR);
    if (file < 0)
        return;
    void *found = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    real_close(file);
    if (found != MAP_FAILED)
        control = found;
}

/* Return the name of a file in the folder, "" for the folder itself, or NULL. */
static const char *name_of(const char *path) {
    if (control == NULL || path == NULL || control->folder[0] == 0)
        return NULL;
    size_t length = strlen(control->folder);
    if (strncmp(path, control->folder, length) != 0)
        return NULL;
    if (path[length] == 0 || (path[length] == '/' && path[length + 1] == 0))
        return "";
    if (path[length] != '/')
        return NULL;
    const char *name = path + length + 1;
    size_t size = strlen(name);
    if (strchr(name, '/') != NULL || size > 255)
        return NULL;
    if ((size > 4 && strcmp(name + size - 4, "-shm") == 0) || strstr(name, "-lock") != NULL)
        return NULL;
    return name;
}

static const char *known(int file) {
    return control != NULL && file >= 0 && file < 4096 ? names[file] : NULL;
}

static void keep_log(int kind, const char *name, int failed, int64_t offset, int64_t length, const void *data) {
    if (control->log[0] == 0)
        return;
    if (log_file < 0 || log_generation != control->generation) {
        if (log_file >= 0)
            real_close(log_file);
        log_generation = control->generation;
        log_file = real_open(control->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (log_file < 0)
            abort();
    }
    struct record record = {kind, strlen(name), failed, {0}, offset, length};
    size_t size = data == NULL ? 0 : length, at = sizeof record;
    if (at + record.name_length + size > sizeof log_buffer)
        abort();
    memcpy(log_buffer, &record, at);
    memcpy(log_buffer + at, name, record.name_length);
    if (size)
        memcpy(log_buffer + at + record.name_length, data, size);
    at += record.name_length + size;
    if (real_write(log_file, log_buffer, at) != (ssize_t)at)
        abort();
}

/* Return what is to happen with this call. */
static int fate(int kind, int grows) {
    __atomic_add_fetch(&control->calls, 1, __ATOMIC_RELAXED);
    if (control->action == PASS || !(control->kinds & kind))
        return PASS;
    if (control->action == FULL && !grows)
        return PASS; /* a full disk takes what needs no more room */
    uint64_t number = __atomic_add_fetch(&control->seen, 1, __ATOMIC_RELAXED);
    if (control->at == 0 || !(number == control->at || (control->lasting && number > control->at)))
        return PASS;
    control->fired++;
    if (control->action == KILL_BEFORE)
        raise(SIGKILL);
    return control->action;
}

static ssize_t written(int file, const char *name, const void *data, size_t size, off_t offset) {
    struct stat now;
    int grows = fstat(file, &now) == 0 && offset + (off_t)size > now.st_size;
    size_t part = size;
    switch (fate(WRITE, grows)) {
    case FAIL:
    case FULL:
        errno = control->error;
        return -1;
    case SHORT: /* the rest fails when it is tried */
        part = size / 2;
        break;
    case KILL_TORN:
        real_pwrite(file, data, size / 2, offset);
        raise(SIGKILL);
        break;
    case KILL_AFTER:
        real_pwrite(file, data, size, offset);
        raise(SIGKILL);
    }
    if (part == 0) {
        errno = control->error;
        return -1;
    }
    ssize_t done = real_pwrite(file, data, part, offset);
    if (done > 0)
        keep_log(WRITE, name, 0, offset, done, data);
    return done;
}

ssize_t pwrite64(int file, const void *data, size_t size, off_t offset) {
    const char *name = known(file);
    return name == NULL || !*name ? real_pwrite(file, data, size, offset) : written(file, name, data, size, offset);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t offset) { return pwrite64(file, data, size, offset); }

ssize_t write(int file, const void *data, size_t size) {
    const char *name = known(file);
    if (real_write == NULL)
        real_write = dlsym(RTLD_NEXT, "write");
    if (name == NULL || !*name)
        return real_write(file, data, size);
    off_t offset = lseek(file, 0, SEEK_CUR);
    ssize_t done = written(file, name, data, size, offset);
    if (done > 0)
        lseek(file, offset + done, SEEK_SET);
    return done;
}

static int synced(int file, int (*really)(int)) {
    const char *name = known(file);
    if (name == NULL)
        return really(file);
    /* SQLite takes no notice if the sync of a folder fails: nothing that it is told could be answered. */
    switch (*name ? fate(SYNC, 1) : PASS) {
    case FAIL:
    case FULL:
    case SHORT:
        keep_log(SYNC, name, 1, 0, 0, NULL);
        errno = control->error;
        return -1;
    case KILL_TORN:
    case KILL_AFTER:
        keep_log(SYNC, name, 0, 0, 0, NULL);
        really(file);
        raise(SIGKILL);
    }
    int result = really(file);
    keep_log(SYNC, name, result != 0, 0, 0, NULL);
    return result;
}

int fsync(int file) { return synced(file, real_fsync); }

int fdatasync(int file) { return synced(file, real_fdatasync); }

int ftruncate64(int file, off_t length) {
    const char *name = known(file);
    if (name == NULL || !*name)
        return real_ftruncate(file, length);
    int what = fate(TRUNCATE, 0);
    if (what == FAIL || what == SHORT) {
        errno = control->error;
        return -1;
    }
    int result = real_ftruncate(file, length);
    if (result == 0)
        keep_log(TRUNCATE, name, 0, 0, length, NULL);
    if (what == KILL_TORN || what == KILL_AFTER)
        raise(SIGKILL);
    return result;
}

int ftruncate(int file, off_t length) { return ftruncate64(file, length); }

static int opened(const char *path, int flags, mode_t mode) {
    if (real_open == NULL)
        real_open = dlsym(RTLD_NEXT, "open64");
    const char *name = name_of(path);
    int is_new = name != NULL && *name && (flags & O_CREAT) && access(path, F_OK) != 0;
    int file = real_open(path, flags, mode);
    if (file < 0 || name == NULL || file >= 4096)
        return file;
    if (is_new)
        keep_log(CREATE, name, 0, 0, 0, NULL);
    free(names[file]);
    names[file] = strdup(name);
    return file;
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = (flags & O_CREAT) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return opened(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = (flags & O_CREAT) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return opened(path, flags, mode);
}

int close(int file) {
    if (real_close == NULL)
        real_close = dlsym(RTLD_NEXT, "close");
    if (control != NULL && file >= 0 && file < 4096 && names[file] != NULL) {
        free(names[file]);
        names[file] = NULL;
    }
    return real_close(file);
}

int unlink(const char *path) {
    const char *name = name_of(path);
    int result = real_unlink(path);
    if (result == 0 && name != NULL && *name)
        keep_log(UNLINK, name, 0, 0, 0, NULL);
    return result;
}
