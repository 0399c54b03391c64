(function(){
var form=document.getElementById("draft"),text=document.getElementById("text"),said=document.getElementById("said"),here="draft:"+location.pathname,mine=form.dataset.session;
function say(words){said.textContent="";setTimeout(function(){said.textContent=words},50)}
// Drafts of a session that has ended are nobody's.
Object.keys(sessionStorage).forEach(function(key){
if(key.indexOf("draft:")!==0)return;
try{if(JSON.parse(sessionStorage.getItem(key)).session===mine)return}catch(e){}
sessionStorage.removeItem(key)});
var kept=sessionStorage.getItem(here);
if(kept){text.value=JSON.parse(kept).text;say("前に書いた下書きを表示しました。")}
text.addEventListener("input",function(){
if(text.value)sessionStorage.setItem(here,JSON.stringify({session:mine,text:text.value}));else sessionStorage.removeItem(here)});
document.getElementById("copy").addEventListener("click",function(){
function failed(){text.focus();text.select();say("コピーできませんでした。選ばれた文章を、手でコピーしてください。")}
if(!navigator.clipboard)return failed();
navigator.clipboard.writeText(text.value).then(function(){say("コピーしました。連絡帳を開いて貼り付けてください。")},failed)});
document.getElementById("erase").addEventListener("click",function(){
text.value="";sessionStorage.removeItem(here);text.focus();say("下書きを消しました。")});
form.hidden=false;
})()
