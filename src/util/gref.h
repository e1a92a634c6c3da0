// One reference to a GObject or a GstMiniObject, released when it goes out of scope.
#pragma once

#include <glib-object.h>

#include <utility>

namespace cfr {

// How a type is referenced; specialised for mini objects in util/gst_ref.h.
template <class T>
struct RefTraits {
  static void ref(T* object) { g_object_ref(object); }
  static void ref_sink(T* object) { g_object_ref_sink(object); }
  static void unref(T* object) { g_object_unref(object); }
};

template <class T>
class gref {
 public:
  gref() = default;
  gref(const gref& other) : object_(other.object_) {
    if (object_) RefTraits<T>::ref(object_);
  }
  gref(gref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  gref& operator=(gref other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~gref() {
    if (object_) RefTraits<T>::unref(object_);
  }

  // transfer full: takes over the caller's reference
  static gref adopt(T* object) { return gref(object); }
  // floating: sinks it
  static gref sink(T* object) {
    if (object) RefTraits<T>::ref_sink(object);
    return gref(object);
  }
  // transfer none: adds a reference
  static gref ref(T* object) {
    if (object) RefTraits<T>::ref(object);
    return gref(object);
  }

  T* get() const { return object_; }
  // Gives the reference away.
  T* release() { return std::exchange(object_, nullptr); }
  void reset() { gref().swap(*this); }
  void swap(gref& other) noexcept { std::swap(object_, other.object_); }
  explicit operator bool() const { return object_ != nullptr; }
  bool operator==(const gref& other) const { return object_ == other.object_; }

 private:
  explicit gref(T* object) : object_(object) {}
  T* object_ = nullptr;
};

}  // namespace cfr
