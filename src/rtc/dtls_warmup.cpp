#include <dlfcn.h>
#include <gst/gst.h>

#include <cstdlib>
#include <mutex>
#include <thread>

#include "rtc/peer.h"

namespace cfr {

namespace {

// All DTLS elements of a process that are given no certificate share one, made by the first.
void make_certificate() {
  GstElement* dtls = gst_element_factory_make("dtlsdec", nullptr);
  if (!dtls) return;
  gst_object_ref_sink(dtls);
  g_autofree gchar* pem = nullptr;
  g_object_get(dtls, "pem", &pem, nullptr);
  gst_object_unref(dtls);
}

std::thread& warmup_thread() {
  static auto* const thread = new std::thread;  // outlives the exit handlers
  return *thread;
}

void join_warmup() {
  if (warmup_thread().joinable()) warmup_thread().join();
}

}  // namespace

void warm_up_dtls() {
  static std::once_flag once;
  std::call_once(once, [] {
    // Exit handlers run last in, first out, and OpenSSL has one that pulls the ground from under a
    // thread that is still making a key. Have it registered before ours: load the plugin, which
    // brings the library, and initialise that.
    if (GstElementFactory* factory = gst_element_factory_find("dtlsdec")) {
      GstPluginFeature* loaded = gst_plugin_feature_load(GST_PLUGIN_FEATURE(factory));
      if (loaded) gst_object_unref(loaded);
      gst_object_unref(factory);
    }
    for (const char* name : {"libcrypto.so.3", "libcrypto.so.1.1", "libcrypto.so"}) {
      void* library = dlopen(name, RTLD_NOLOAD | RTLD_LAZY);
      if (!library) continue;
      using Init = int (*)(uint64_t, const void*);
      if (const auto init = reinterpret_cast<Init>(dlsym(library, "OPENSSL_init_crypto")))
        init(0, nullptr);
      dlclose(library);
      break;
    }
    std::atexit(join_warmup);
    warmup_thread() = std::thread(make_certificate);
  });
}

}  // namespace cfr
