/* Calls of the C library that change or open files below one folder, counted, so that the n-th can be made to fail.
 *
 * Loaded with LD_PRELOAD; `faults.py` compiles it and arms it through ctypes. Python, HDF5, SQLite, OpenVINO and
 * TensorFlow all come through here. Every call may also be written down with its data, for the simulation of a power
 * loss.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, WRITE = 2, FSYNC = 4, RENAME = 8, LINK = 16, UNLINK = 32, MKDIR = 64, READ = 128 };
enum { FAIL_ONCE = 0, FAIL_FROM_HERE = 1, KILL = 2 };

#define MOST_FILES 8192
static char root[PATH_MAX];
static size_t root_length;
static char tracked[MOST_FILES];
static int mask, error_number, action, journal = -1;
static long wanted, seen;
static pthread_mutex_t alone = PTHREAD_MUTEX_INITIALIZER;

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

void faults_arm(const char *folder, int kinds, long n, int error, int what) {
    root_length = strlen(strncpy(root, folder, sizeof root - 1));
    seen = 0; wanted = n; error_number = error; action = what; mask = kinds;
}
long faults_disarm(void) { mask = 0; wanted = 0; if (journal >= 0) close(journal); journal = -1; return seen; }

static ssize_t plain_write(int fd, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    return real(fd, data, size);
}
void faults_record(const char *path) { journal = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_APPEND | O_CLOEXEC, 0600); }

/* The absolute path in `out`; whether it is below the folder. */
static int below(int at, const char *path, char *out) {
    char link[64]; ssize_t n = 0;
    if (!root_length || !path) return 0;
    if (path[0] != '/') {
        if (at == AT_FDCWD) { if (!getcwd(out, PATH_MAX)) return 0; n = strlen(out); }
        else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", at);
            n = readlink(link, out, PATH_MAX - 1);
            if (n < 0) return 0;
        }
        snprintf(out + n, PATH_MAX - n, "/%s", path);
    } else snprintf(out, PATH_MAX, "%s", path);
    return strncmp(out, root, root_length) == 0 && (out[root_length] == '/' || !out[root_length]);
}
static int is_tracked(int fd) { return fd >= 0 && fd < MOST_FILES && tracked[fd]; }

/* Whether this call has to fail. */
static int fails(int kind) {
    int now = 0;
    if (!(mask & kind)) return 0;
    pthread_mutex_lock(&alone);
    seen++;
    now = wanted && (seen == wanted || (action == FAIL_FROM_HERE && seen > wanted));
    pthread_mutex_unlock(&alone);
    if (now && action == KILL) _exit(137);
    if (now) errno = error_number;
    return now;
}
static void note(char kind, const char *one, const char *two, unsigned long long inode, long long offset,
                 const void *data, size_t size) {
    char head[2 * PATH_MAX + 128];
    int kept = errno;
    if (journal < 0) return;
    pthread_mutex_lock(&alone);
    int n = snprintf(head, sizeof head, "%c\t%s\t%s\t%llu\t%lld\t%zu\n", kind, one, two, inode, offset, size);
    if (plain_write(journal, head, n) != n || (size && plain_write(journal, data, size) != (ssize_t)size)) abort();
    pthread_mutex_unlock(&alone);
    errno = kept;
}
static unsigned long long inode_of(int fd) { struct stat s; return fstat(fd, &s) ? 0 : (unsigned long long)s.st_ino; }

static int opened(int fd, int flags, const char *path, int was_there) {
    if (fd >= 0 && fd < MOST_FILES) {
        tracked[fd] = (flags & O_ACCMODE) != O_RDONLY || (flags & O_DIRECTORY) == 0;
        if ((flags & O_ACCMODE) != O_RDONLY) {
            if (!was_there) note('C', path, "", inode_of(fd), 0, 0, 0);
            else if (flags & O_TRUNC) note('T', path, "", inode_of(fd), 0, 0, 0);
        }
    }
    return fd;
}
#define OPENING(call, at) do { \
    char full[PATH_MAX]; struct stat s; \
    if (!below(at, path, full)) { int fd = call; if (fd >= 0 && fd < MOST_FILES) tracked[fd] = 0; return fd; } \
    int there = stat(full, &s) == 0; \
    if (there && S_ISDIR(s.st_mode)) { int fd = call; if (fd >= 0 && fd < MOST_FILES) tracked[fd] = 1; return fd; } \
    if ((there || (flags & O_CREAT)) && fails((flags & O_ACCMODE) == O_RDONLY ? READ : OPEN)) return -1; \
    return opened(call, flags, full, there); } while (0)
#define MODE mode_t mode = 0; if (flags & (O_CREAT | O_TMPFILE)) { va_list l; va_start(l, flags); mode = va_arg(l, mode_t); va_end(l); }

int open(const char *path, int flags, ...) { MODE REAL(int, "open", const char *, int, ...); OPENING(real(path, flags, mode), AT_FDCWD); }
int open64(const char *path, int flags, ...) { MODE REAL(int, "open64", const char *, int, ...); OPENING(real(path, flags, mode), AT_FDCWD); }
int openat(int at, const char *path, int flags, ...) { MODE REAL(int, "openat", int, const char *, int, ...); OPENING(real(at, path, flags, mode), at); }
int openat64(int at, const char *path, int flags, ...) { MODE REAL(int, "openat64", int, const char *, int, ...); OPENING(real(at, path, flags, mode), at); }

static FILE *open_stream(FILE *(*real)(const char *, const char *), const char *path, const char *mode) {
    char full[PATH_MAX]; struct stat s;
    int writes = strpbrk(mode, "wa+") != NULL;
    if (!below(AT_FDCWD, path, full)) return real(path, mode);
    int there = stat(full, &s) == 0;
    if ((there || writes) && fails(writes ? OPEN : READ)) return NULL;
    FILE *file = real(path, mode);
    if (file) opened(fileno(file), (writes ? O_WRONLY : O_RDONLY) | (mode[0] == 'w' ? O_TRUNC : 0), full, there);
    return file;
}
FILE *fopen(const char *path, const char *mode) { REAL(FILE *, "fopen", const char *, const char *); return open_stream(real, path, mode); }
FILE *fopen64(const char *path, const char *mode) { REAL(FILE *, "fopen64", const char *, const char *); return open_stream(real, path, mode); }
int close(int fd) { REAL(int, "close", int); if (fd >= 0 && fd < MOST_FILES) tracked[fd] = 0; return real(fd); }

static long long place(int fd) {
    struct stat s;
    if (fcntl(fd, F_GETFL) & O_APPEND) return fstat(fd, &s) ? 0 : (long long)s.st_size;
    return (long long)lseek(fd, 0, SEEK_CUR);
}
ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (!is_tracked(fd)) return real(fd, data, size);
    if (fails(WRITE)) return -1;
    long long at = journal >= 0 ? place(fd) : 0;
    ssize_t done = real(fd, data, size);
    if (done > 0) note('W', "", "", inode_of(fd), at, data, done);
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    if (is_tracked(fd) && fails(WRITE)) return -1;
    ssize_t done = real(fd, data, size, at);
    if (is_tracked(fd) && done > 0) note('W', "", "", inode_of(fd), at, data, done);
    return done;
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    if (is_tracked(fd) && fails(WRITE)) return -1;
    ssize_t done = real(fd, data, size, at);
    if (is_tracked(fd) && done > 0) note('W', "", "", inode_of(fd), at, data, done);
    return done;
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    if (!is_tracked(fd)) return real(fd, parts, count);
    ssize_t sum = 0;
    for (int i = 0; i < count; i++) { /* one by one, so that each is counted and written down */
        ssize_t done = parts[i].iov_len ? write(fd, parts[i].iov_base, parts[i].iov_len) : 0;
        if (done < 0) return sum ? sum : -1;
        sum += done;
        if ((size_t)done < parts[i].iov_len) break;
    }
    return sum;
}
/* Data that goes from file to file in the kernel is not seen here: callers fall back to read and write. */
ssize_t sendfile(int out, int in, off_t *at, size_t n) { REAL(ssize_t, "sendfile", int, int, off_t *, size_t); if (is_tracked(out)) { errno = ENOSYS; return -1; } return real(out, in, at, n); }
ssize_t sendfile64(int out, int in, off64_t *at, size_t n) { REAL(ssize_t, "sendfile64", int, int, off64_t *, size_t); if (is_tracked(out)) { errno = ENOSYS; return -1; } return real(out, in, at, n); }
ssize_t copy_file_range(int in, off64_t *a, int out, off64_t *b, size_t n, unsigned f) { REAL(ssize_t, "copy_file_range", int, off64_t *, int, off64_t *, size_t, unsigned); if (is_tracked(out)) { errno = ENOSYS; return -1; } return real(in, a, out, b, n, f); }

int ftruncate(int fd, off_t size) { REAL(int, "ftruncate", int, off_t); if (is_tracked(fd) && fails(WRITE)) return -1; int r = real(fd, size); if (is_tracked(fd) && !r) note('T', "", "", inode_of(fd), size, 0, 0); return r; }
int ftruncate64(int fd, off64_t size) { REAL(int, "ftruncate64", int, off64_t); if (is_tracked(fd) && fails(WRITE)) return -1; int r = real(fd, size); if (is_tracked(fd) && !r) note('T', "", "", inode_of(fd), size, 0, 0); return r; }

static void synced(int fd) {
    char link[64], path[PATH_MAX]; struct stat s;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0 || fstat(fd, &s)) return;
    path[n] = 0;
    note(S_ISDIR(s.st_mode) ? 'D' : 'F', path, "", s.st_ino, 0, 0, 0);
}
int fsync(int fd) { REAL(int, "fsync", int); if (is_tracked(fd) && fails(FSYNC)) return -1; int r = real(fd); if (is_tracked(fd) && !r) synced(fd); return r; }
int fdatasync(int fd) { REAL(int, "fdatasync", int); if (is_tracked(fd) && fails(FSYNC)) return -1; int r = real(fd); if (is_tracked(fd) && !r) synced(fd); return r; }

#define TWO(name, letter, kind, from, to, ...) \
    char one[PATH_MAX], two[PATH_MAX]; int a = below(from, old, one), b = below(to, new, two); \
    if ((a || b) && fails(kind)) return -1; \
    int r = real(__VA_ARGS__); if ((a || b) && !r) note(letter, one, two, 0, 0, 0, 0); return r
int rename(const char *old, const char *new) { REAL(int, "rename", const char *, const char *); TWO("rename", 'R', RENAME, AT_FDCWD, AT_FDCWD, old, new); }
int renameat(int x, const char *old, int y, const char *new) { REAL(int, "renameat", int, const char *, int, const char *); TWO("renameat", 'R', RENAME, x, y, x, old, y, new); }
int link(const char *old, const char *new) { REAL(int, "link", const char *, const char *); TWO("link", 'L', LINK, AT_FDCWD, AT_FDCWD, old, new); }
int linkat(int x, const char *old, int y, const char *new, int f) { REAL(int, "linkat", int, const char *, int, const char *, int); TWO("linkat", 'L', LINK, x, y, x, old, y, new, f); }

#define ONE(letter, kind, at, there, ...) \
    char full[PATH_MAX]; struct stat s; int a = below(at, path, full); \
    if (a && (lstat(full, &s) == 0) == there && fails(kind)) return -1; \
    int r = real(__VA_ARGS__); if (a && !r) note(letter, full, "", 0, 0, 0, 0); return r
int unlink(const char *path) { REAL(int, "unlink", const char *); ONE('U', UNLINK, AT_FDCWD, 1, path); }
int unlinkat(int at, const char *path, int flags) { REAL(int, "unlinkat", int, const char *, int); ONE('U', UNLINK, at, 1, at, path, flags); }
int rmdir(const char *path) { REAL(int, "rmdir", const char *); ONE('U', UNLINK, AT_FDCWD, 1, path); }
int mkdir(const char *path, mode_t mode) { REAL(int, "mkdir", const char *, mode_t); ONE('M', MKDIR, AT_FDCWD, 0, path, mode); }
int mkdirat(int at, const char *path, mode_t mode) { REAL(int, "mkdirat", int, const char *, mode_t); ONE('M', MKDIR, at, 0, at, path, mode); }
