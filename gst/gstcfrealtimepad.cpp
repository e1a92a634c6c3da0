#include "gstcfrealtimepad.h"

struct _GstCfRealtimePad {
  GstGhostPad parent;
  // under the object lock
  char* track_name;
  char* session_id;
  char* mid;
};

G_DEFINE_TYPE(GstCfRealtimePad, gst_cf_realtime_pad, GST_TYPE_GHOST_PAD)

enum { PROP_0, PROP_TRACK_NAME, PROP_SESSION_ID, PROP_MID };

GstPad* gst_cf_realtime_pad_new(const char* name, GstPadTemplate* templ) {
  return GST_PAD(g_object_new(GST_TYPE_CF_REALTIME_PAD, "name", name, "direction",
                              GST_PAD_TEMPLATE_DIRECTION(templ), "template", templ, nullptr));
}

char* gst_cf_realtime_pad_dup_track_name(GstCfRealtimePad* pad) {
  GST_OBJECT_LOCK(pad);
  char* name =
      g_strdup(pad->track_name && *pad->track_name ? pad->track_name : GST_OBJECT_NAME(pad));
  GST_OBJECT_UNLOCK(pad);
  return name;
}

static void replace_string(GstCfRealtimePad* pad, char** member, const char* value,
                           const char* property) {
  GST_OBJECT_LOCK(pad);
  bool changed = g_strcmp0(*member, value) != 0;
  if (changed) {
    g_free(*member);
    *member = g_strdup(value);
  }
  GST_OBJECT_UNLOCK(pad);
  if (changed) g_object_notify(G_OBJECT(pad), property);
}

void gst_cf_realtime_pad_set_track(GstCfRealtimePad* pad, const char* session_id,
                                   const char* track_name) {
  replace_string(pad, &pad->session_id, session_id, "session-id");
  replace_string(pad, &pad->track_name, track_name, "track-name");
}

void gst_cf_realtime_pad_set_mid(GstCfRealtimePad* pad, const char* mid) {
  replace_string(pad, &pad->mid, mid, "mid");
}

static void gst_cf_realtime_pad_set_property(GObject* object, guint id, const GValue* value,
                                             GParamSpec* pspec) {
  GstCfRealtimePad* pad = GST_CF_REALTIME_PAD(object);
  switch (id) {
    case PROP_TRACK_NAME: {
      if (GST_PAD_IS_SRC(pad)) {
        g_warning("track-name of a source pad says where it comes from and cannot be set");
        break;
      }
      GST_OBJECT_LOCK(pad);
      g_free(pad->track_name);
      pad->track_name = g_value_dup_string(value);
      GST_OBJECT_UNLOCK(pad);
      break;
    }
    default: G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, pspec);
  }
}

static void gst_cf_realtime_pad_get_property(GObject* object, guint id, GValue* value,
                                             GParamSpec* pspec) {
  GstCfRealtimePad* pad = GST_CF_REALTIME_PAD(object);
  switch (id) {
    case PROP_TRACK_NAME:
      g_value_take_string(value, gst_cf_realtime_pad_dup_track_name(pad));
      break;
    case PROP_SESSION_ID:
      GST_OBJECT_LOCK(pad);
      g_value_set_string(value, pad->session_id);
      GST_OBJECT_UNLOCK(pad);
      break;
    case PROP_MID:
      GST_OBJECT_LOCK(pad);
      g_value_set_string(value, pad->mid);
      GST_OBJECT_UNLOCK(pad);
      break;
    default: G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, pspec);
  }
}

static void gst_cf_realtime_pad_finalize(GObject* object) {
  GstCfRealtimePad* pad = GST_CF_REALTIME_PAD(object);
  g_free(pad->track_name);
  g_free(pad->session_id);
  g_free(pad->mid);
  G_OBJECT_CLASS(gst_cf_realtime_pad_parent_class)->finalize(object);
}

static void gst_cf_realtime_pad_init(GstCfRealtimePad*) {}

static void gst_cf_realtime_pad_class_init(GstCfRealtimePadClass* klass) {
  GObjectClass* object_class = G_OBJECT_CLASS(klass);
  object_class->set_property = gst_cf_realtime_pad_set_property;
  object_class->get_property = gst_cf_realtime_pad_get_property;
  object_class->finalize = gst_cf_realtime_pad_finalize;

  /**
   * GstCfRealtimePad:track-name:
   *
   * Name of the track at the SFU. On sink pads of cfrealtimesink it can be set before the pad has
   * caps; the default is the pad's name. Unique within the session; letters, digits, '-' and '_'
   * are safe everywhere.
   */
  g_object_class_install_property(
      object_class, PROP_TRACK_NAME,
      g_param_spec_string(
          "track-name", "Track name",
          "Name of the track at the SFU, unique within its session "
          "(sink pads: settable before the pad has caps; default the pad's name)",
          nullptr,
          GParamFlags(G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_READY)));
  g_object_class_install_property(
      object_class, PROP_SESSION_ID,
      g_param_spec_string("session-id", "Session id",
                          "Session of the publisher of this track (source pads)", nullptr,
                          GParamFlags(G_PARAM_READABLE | G_PARAM_STATIC_STRINGS)));
  g_object_class_install_property(
      object_class, PROP_MID,
      g_param_spec_string("mid", "mid",
                          "Media section of the current PeerConnection that carries this track "
                          "(RFC 5888); NULL while it is not negotiated",
                          nullptr, GParamFlags(G_PARAM_READABLE | G_PARAM_STATIC_STRINGS)));
}
