<?php
// Fills the lab's template: install.php TREE ADMIN PASSWORD PERMALINKS WORDS. Prints one line of JSON: posts, categories, assets.
[, $tree, $admin, $password, $permalinks, $searched] = $argv;
$_SERVER += ['HTTP_HOST' => 'lab.example', 'SERVER_NAME' => 'lab.example', 'REQUEST_METHOD' => 'GET', 'REQUEST_URI' => '/',
             'SERVER_PROTOCOL' => 'HTTP/1.1', 'REMOTE_ADDR' => '127.0.0.1'];
define('WP_INSTALLING', true);
define('WP_HTTP_BLOCK_EXTERNAL', true);
require "$tree/wp-load.php";
require ABSPATH . 'wp-admin/includes/upgrade.php';
function wp_mail() { return true; }
mt_srand(2600);

wp_install('Notes from the garden', $admin, 'editor@lab.example', true, '', $password);
switch_theme('twentytwentythree');
$wp_rewrite->set_permalink_structure($permalinks);
create_initial_taxonomies();
update_option('posts_per_page', 10);
update_option('default_pingback_flag', 0);

$syllables = explode(' ', 'ba be bo ca co da de di do fa fe fi ga go ha he in ka ke la le li lo ma me mi mo na ne no pa pe po ra re ri ro sa se si so ta te ti to ur va ve vi vo an en on er ar el st nd');
$words = [];
while (count($words) < 3000) {
    $word = '';
    for ($n = mt_rand(2, 4); $n; $n--) $word .= $syllables[mt_rand(0, count($syllables) - 1)];
    $words[$word] = true;
}
// The words that visitors search for stand in plenty among the others.
$words = array_keys($words);
foreach (explode(' ', $searched) as $n => $word) array_splice($words, 5 * $n, 0, $word);
// Squares of a uniform draw: a few words are common and most are rare, as in a language.
$some = function (int $n) use ($words): string {
    $out = [];
    while ($n--) $out[] = $words[(int) (count($words) * (mt_rand(0, 9999) / 10000) ** 2)];
    return implode(' ', $out);
};

$categories = [];
for ($n = 0; $n < 12; $n++) $categories[] = wp_insert_term(ucfirst($words[100 + $n]), 'category')['term_id'];
$images = [];
wp_mkdir_p(WP_CONTENT_DIR . '/uploads/2026/03');
for ($n = 0; $n < 16; $n++) {
    $image = imagecreatetruecolor(900, 600);
    for ($k = 0; $k < 400; $k++)
        imagefilledellipse($image, mt_rand(0, 900), mt_rand(0, 600), mt_rand(5, 90), mt_rand(5, 90),
            imagecolorallocate($image, mt_rand(0, 255), mt_rand(0, 255), mt_rand(0, 255)));
    $file = '/uploads/2026/03/' . $words[200 + $n] . '.jpg';
    imagejpeg($image, WP_CONTENT_DIR . $file, 60);
    $images[] = $file;
}
global $wpdb;
$wpdb->query('SET autocommit = 0');
wp_defer_term_counting(true);
wp_defer_comment_counting(true);
$posts = [];
for ($n = 0; $n < 2600; $n++) {
    $text = '';
    for ($k = mt_rand(8, 40); $k; $k--) $text .= '<p>' . ucfirst($some(mt_rand(30, 90))) . ".</p>\n";
    if ($n % 3 == 0) $text .= '<p><img src="/wp-content' . $images[$n % 16] . '" alt=""></p>';
    $date = gmdate('Y-m-d H:i:s', 1600000000 + $n * 60000 + mt_rand(0, 50000));
    $id = wp_insert_post(['post_title' => ucfirst($some(mt_rand(3, 7))), 'post_content' => $text, 'post_status' => 'publish',
        'post_author' => 1, 'post_date' => $date, 'post_date_gmt' => $date, 'post_category' => [$categories[mt_rand(0, 11)]],
        'ping_status' => 'open', 'tags_input' => [$words[mt_rand(300, 340)], $words[mt_rand(300, 340)]]], true);
    if (is_wp_error($id)) { fwrite(STDERR, $id->get_error_message()); exit(1); }
    $posts[] = wp_make_link_relative(get_permalink($id));
    for ($k = mt_rand(0, 4); $k; $k--)
        $wpdb->insert($wpdb->comments, ['comment_post_ID' => $id, 'comment_author' => $words[mt_rand(0, 2999)],
            'comment_content' => ucfirst($some(mt_rand(10, 60))), 'comment_date' => $date, 'comment_date_gmt' => $date, 'comment_approved' => '1']);
    if ($n % 200 == 199) { $wpdb->query('COMMIT'); wp_cache_flush(); }
}
$wpdb->query("UPDATE $wpdb->posts p SET comment_count = (SELECT COUNT(*) FROM $wpdb->comments c WHERE c.comment_post_ID = p.ID)");
wp_defer_term_counting(false);
$wpdb->query('COMMIT');
$links = [];
foreach ($categories as $category) $links[] = wp_make_link_relative(get_category_link($category));
// An installation from the command line leaves rules without categories: WordPress makes them anew at the first request.
delete_option('rewrite_rules');
$wpdb->query('COMMIT');
$assets = ['/wp-includes/css/dist/block-library/style.min.css', '/wp-includes/js/wp-emoji-release.min.js',
    '/wp-includes/js/jquery/jquery.min.js', '/wp-includes/css/dashicons.min.css'];
foreach (glob(ABSPATH . 'wp-content/themes/twentytwentythree/assets/fonts/*/*.woff2') as $font)
    $assets[] = substr($font, strlen(ABSPATH) - 1);
foreach ($images as $image) $assets[] = '/wp-content' . $image;
$assets = array_values(array_filter($assets, fn($path) => is_file(ABSPATH . $path)));
echo "\n" . json_encode(['posts' => $posts, 'categories' => $links, 'assets' => $assets]) . "\n";
