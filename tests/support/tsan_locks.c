/* Tells ThreadSanitizer about GLib's locks. They are futexes of GLib's own, which it cannot see, so
 * everything that they guard would look like a race. Preloaded by the tests' set-up `tsan`; does
 * nothing in a process without ThreadSanitizer. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <gst/gst.h>

void __tsan_acquire(void* address) __attribute__((weak));
void __tsan_release(void* address) __attribute__((weak));

static void acquired(void* lock) {
  if (__tsan_acquire) __tsan_acquire(lock);
}

static void releasing(void* lock) {
  if (__tsan_release) __tsan_release(lock);
}

/* The function of GLib that this one stands before. */
#define REAL(name)                                                \
  static __typeof__(&name) real;                                  \
  __typeof__(&name) call = __atomic_load_n(&real, __ATOMIC_RELAXED); \
  if (!call) {                                                    \
    call = (__typeof__(&name))dlsym(RTLD_NEXT, #name);            \
    __atomic_store_n(&real, call, __ATOMIC_RELAXED);              \
  }

#define LOCK(name, type)   \
  void name(type* lock) {  \
    REAL(name)             \
    call(lock);            \
    acquired(lock);        \
  }
#define TRY_LOCK(name, type)         \
  gboolean name(type* lock) {        \
    REAL(name)                       \
    gboolean locked = call(lock);    \
    if (locked) acquired(lock);      \
    return locked;                   \
  }
#define UNLOCK(name, type) \
  void name(type* lock) {  \
    REAL(name)             \
    releasing(lock);       \
    call(lock);            \
  }

#undef g_mutex_lock
#undef g_mutex_trylock
#undef g_mutex_unlock
LOCK(g_mutex_lock, GMutex)
TRY_LOCK(g_mutex_trylock, GMutex)
UNLOCK(g_mutex_unlock, GMutex)
LOCK(g_rec_mutex_lock, GRecMutex)
TRY_LOCK(g_rec_mutex_trylock, GRecMutex)
UNLOCK(g_rec_mutex_unlock, GRecMutex)
LOCK(g_rw_lock_writer_lock, GRWLock)
UNLOCK(g_rw_lock_writer_unlock, GRWLock)
LOCK(g_rw_lock_reader_lock, GRWLock)
UNLOCK(g_rw_lock_reader_unlock, GRWLock)

void g_cond_wait(GCond* condition, GMutex* mutex) {
  REAL(g_cond_wait)
  releasing(mutex);
  call(condition, mutex);
  acquired(mutex);
}

gboolean g_cond_wait_until(GCond* condition, GMutex* mutex, gint64 until) {
  REAL(g_cond_wait_until)
  releasing(mutex);
  gboolean woken = call(condition, mutex, until);
  acquired(mutex);
  return woken;
}

/* Reference counts are the other order there is: what was done before a reference was let go has
 * been done before the object ends. */
void g_object_unref(gpointer object) {
  REAL(g_object_unref)
  releasing(object);
  call(object);
}

/* What is handed to a thread pool: its locks are within GLib. */
typedef struct {
  GstElementCallAsyncFunc function;
  gpointer data;
  GDestroyNotify notify;
} Call;

static void run(GstElement* element, gpointer data) {
  Call* call = data;
  acquired(call);
  call->function(element, call->data);
}

static void finish(gpointer data) {
  Call* call = data;
  if (call->notify) call->notify(call->data);
  g_free(call);
}

void gst_element_call_async(GstElement* element, GstElementCallAsyncFunc function, gpointer data,
                            GDestroyNotify notify) {
  REAL(gst_element_call_async)
  Call* handed = g_new0(Call, 1);
  handed->function = function;
  handed->data = data;
  handed->notify = notify;
  releasing(handed);
  call(element, run, handed, finish);
}
